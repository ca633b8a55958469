/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields of objects, read and written where the class's own member
 * descriptors say that instances hold them, and look-ups by them.
 */
#ifndef HL_SLOTS_H
#define HL_SLOTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* Where instances of a class hold a field; -1 with an exception. */
static inline Py_ssize_t slot_of(PyTypeObject *type, PyObject *name)
{
	PyObject *member = PyObject_GetAttr((PyObject *)type, name);
	Py_ssize_t offset = -1;

	if (member && Py_IS_TYPE(member, &PyMemberDescr_Type) &&
	    ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX &&
	    PyType_IsSubtype(type, PyDescr_TYPE(member)))
		offset = ((PyMemberDescrObject *)member)->d_member->offset;
	else if (member)
		PyErr_Format(PyExc_TypeError, "instances of %.100s do not hold the field %R", type->tp_name, name);
	Py_XDECREF(member);
	return offset;
}

/* A new reference; NULL with an exception. */
static inline PyObject *get_slot(PyObject *object, Py_ssize_t offset)
{
	PyObject *value = *(PyObject **)((char *)object + offset);

	if (!value)
		PyErr_Format(PyExc_AttributeError, "a field of a %.100s is not set", Py_TYPE(object)->tp_name);
	return Py_XNewRef(value);
}

static inline void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)
{
	PyObject **slot = (PyObject **)((char *)object + offset);

	Py_XSETREF(*slot, Py_NewRef(value));
}

/* What a mapping with a default, or a function, has for a key: a new reference. */
static inline PyObject *found(PyObject *find, PyObject *key)
{
	PyObject *value;

	if (!PyDict_Check(find))
		return PyObject_CallOneArg(find, key);
	value = PyDict_GetItemWithError(find, key);
	if (value)
		return Py_NewRef(value);
	return PyErr_Occurred() ? NULL : PyObject_GetItem(find, key);
}

#endif
