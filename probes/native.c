// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records to events, a span at a time: what pipeline.decode.decode_span does
 * with the generated decoders of probes.decoder, by their plans. Both give
 * the same events; see docs/architecture.md for why there are two.
 *
 * No byte of a record is trusted: a record lies inside its span, its lengths
 * add up to its size, or it is malformed and nothing of it is looked at.
 */
#include "slots.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MAX_TAILS 16
#define MAX_VALUES 64
#define MAX_REMEMBERED 512	/* bytes of a piece, as of probes.text.Remembered */
#define PIECES 512		/* a power of two */
#define PREFIX_SIZE 8

enum form {
	NUMBER,			/* "width" bytes at "at" */
	SIGNED_NUMBER,
	BYTES,			/* "width" bytes at "at" */
	REST,			/* from "at" to the first tail of the event's own */
	TAIL,			/* tail number "at" */
};

struct value {
	enum form form;
	uint32_t at;
	uint32_t width;
	bool is_remembered;	/* comes again and again with the same bytes */
	Py_ssize_t slot;
};

/* A field that no record has. */
struct filling {
	Py_ssize_t slot;
	PyObject *value;
};

struct plan {
	PyTypeObject *event;
	uint32_t kind;
	uint32_t size;		/* bytes before the tails */
	uint32_t cpu_at, sequence_at, time_at;
	int values, fillings, tails, own_tails;
	uint32_t length_at[MAX_TAILS];
	struct value value[MAX_VALUES];
	struct filling filling[MAX_VALUES];
};

struct decoder {
	PyObject_HEAD
	Py_ssize_t plans;
	struct plan *plan;	/* by kind, ascending */
	PyObject *piece[PIECES];
};

static uint32_t u32_at(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t u64_at(const char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static PyObject *number(const char *at, uint32_t width)
{
	switch (width) {
	case 1:
		return PyLong_FromLong(*(const unsigned char *)at);
	case 2: {
		uint16_t value;

		memcpy(&value, at, sizeof(value));
		return PyLong_FromLong(value);
	}
	case 4:
		return PyLong_FromUnsignedLong(u32_at(at));
	default:
		return PyLong_FromUnsignedLongLong(u64_at(at));
	}
}

static PyObject *signed_number(const char *at, uint32_t width)
{
	return width == 4 ? PyLong_FromLong((int32_t)u32_at(at)) : PyLong_FromLongLong((int64_t)u64_at(at));
}

static uint64_t digest(const char *at, size_t size)
{
	uint64_t hash = size, word;

	for (; size >= 8; at += 8, size -= 8) {
		hash = (hash ^ u64_at(at)) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 29;
	}
	for (word = 0; size; size--)
		word = word << 8 | (unsigned char)at[size - 1];
	hash = (hash ^ word) * 0x9e3779b97f4a7c15;
	return hash >> 40;
}

/*
 * The same object for the same bytes as lately, so that its hash, which later
 * stages look it up by, is known.
 */
static PyObject *remembered(struct decoder *self, const char *at, size_t size)
{
	PyObject **piece;

	if (size == 0 || size > MAX_REMEMBERED)
		return PyBytes_FromStringAndSize(at, size);
	piece = &self->piece[digest(at, size) % PIECES];
	if (!*piece || (size_t)PyBytes_GET_SIZE(*piece) != size || memcmp(PyBytes_AS_STRING(*piece), at, size)) {
		PyObject *made = PyBytes_FromStringAndSize(at, size);

		if (!made)
			return NULL;
		Py_XSETREF(*piece, made);
	}
	return Py_NewRef(*piece);
}

/* Where each tail begins, and where the last one ends; false if the lengths do not add up to the size. */
static bool find_tails(const struct plan *plan, const char *record, uint64_t size, uint64_t *tail)
{
	int at;

	if (size < plan->size)
		return false;
	tail[0] = plan->size;
	for (at = 0; at < plan->tails; at++)
		tail[at + 1] = tail[at] + u32_at(record + plan->length_at[at]);
	return tail[plan->tails] == size;
}

/*
 * NULL with an exception; record and tails were checked. What is made here is
 * what a call of the class makes, which takes longer.
 */
static PyObject *event_of(struct decoder *self, const struct plan *plan, const char *record, const uint64_t *tail)
{
	PyObject *event = plan->event->tp_alloc(plan->event, 0);
	int at;

	for (at = 0; event && at < plan->values; at++) {
		const struct value *value = &plan->value[at];
		const char *start = record + value->at;
		size_t size = value->width;
		PyObject *made;

		if (value->form == REST) {
			size = tail[plan->tails - plan->own_tails] - value->at;
		} else if (value->form == TAIL) {
			start = record + tail[value->at];
			size = tail[value->at + 1] - tail[value->at];
		}
		made = value->form == NUMBER	    ? number(start, size) :
		       value->form == SIGNED_NUMBER ? signed_number(start, size) :
		       value->is_remembered	    ? remembered(self, start, size) :
						      PyBytes_FromStringAndSize(start, size);
		if (made)
			*(PyObject **)((char *)event + value->slot) = made;
		else
			Py_CLEAR(event);
	}
	for (at = 0; event && at < plan->fillings; at++)
		set_slot(event, plan->filling[at].slot, plan->filling[at].value);
	return event;
}

static const struct plan *plan_of(const struct decoder *self, uint32_t kind)
{
	Py_ssize_t low = 0, high = self->plans;

	while (low < high) {
		Py_ssize_t middle = (low + high) / 2;

		if (self->plan[middle].kind < kind)
			low = middle + 1;
		else
			high = middle;
	}
	return low < self->plans && self->plan[low].kind == kind ? &self->plan[low] : NULL;
}

/*
 * Whether the number follows the last one of this kind on this CPU, which is
 * then noted; -1 with an exception. "last": {kind: {cpu: number}}
 */
static int follows(PyObject *last, const struct plan *plan, const char *record)
{
	PyObject *of_kind, *before, *key, *cpu = NULL, *sequence = NULL;
	int result = -1;

	key = PyLong_FromUnsignedLong(plan->kind);
	if (!key)
		return -1;
	of_kind = PyDict_GetItemWithError(last, key);
	Py_DECREF(key);
	if (!of_kind || !PyDict_Check(of_kind)) {
		if (!PyErr_Occurred())
			PyErr_Format(PyExc_KeyError, "kind %u", plan->kind);
		return -1;
	}
	cpu = PyLong_FromUnsignedLong(u32_at(record + plan->cpu_at));
	if (!cpu)
		return -1;
	before = PyDict_GetItemWithError(of_kind, cpu);
	if (before) {
		uint64_t number = PyLong_AsUnsignedLongLong(before);

		if (number == (uint64_t)-1 && PyErr_Occurred())
			goto out;
		if (number + 1 == u64_at(record + plan->sequence_at) && number + 1) {
			sequence = PyLong_FromUnsignedLongLong(number + 1);
			if (sequence && PyDict_SetItem(of_kind, cpu, sequence) == 0)
				result = 1;
			goto out;
		}
	}
	if (!PyErr_Occurred())
		result = 0;
out:
	Py_XDECREF(sequence);
	Py_DECREF(cpu);
	return result;
}

static int append_gap(PyObject *events, PyObject *gap, const struct plan *plan, const char *record)
{
	PyObject *found = PyObject_CallFunction(gap, "IIKK", plan->kind, u32_at(record + plan->cpu_at),
						u64_at(record + plan->sequence_at), u64_at(record + plan->time_at));
	int error = 0;

	if (!found)
		return -1;
	if (found != Py_None)
		error = PyList_Append(events, found);
	Py_DECREF(found);
	return error;
}

static int report(PyObject *bad, uint32_t kind)
{
	PyObject *result = PyObject_CallFunction(bad, "I", kind);

	Py_XDECREF(result);
	return result ? 0 : -1;
}

static int decode_record(struct decoder *self, const char *record, uint64_t room, uint64_t size, PyObject *events,
			 PyObject *last, PyObject *gap, PyObject *bad)
{
	uint64_t tail[MAX_TAILS + 1];
	const struct plan *plan;
	PyObject *event;
	int error;

	if (room < PREFIX_SIZE)
		return report(bad, 0);
	plan = plan_of(self, u32_at(record + 4));
	if (!plan || size > room || u32_at(record) != size || !find_tails(plan, record, size, tail))
		return report(bad, plan ? plan->kind : 0);
	event = event_of(self, plan, record, tail);
	if (!event)
		return -1;
	error = follows(last, plan, record);
	if (error >= 0)
		error = error ? 0 : append_gap(events, gap, plan, record);
	if (!error)
		error = PyList_Append(events, event);
	Py_DECREF(event);
	return error;
}

static PyObject *decode(struct decoder *self, PyObject *args)
{
	PyObject *records, *last, *gap, *bad, *events;
	const char *data;
	Py_ssize_t size, at;

	/* "S": bytes, which nobody can change meanwhile */
	if (!PyArg_ParseTuple(args, "SO!O!OO", &events, &PyList_Type, &records, &PyDict_Type, &last, &gap, &bad))
		return NULL;
	data = PyBytes_AS_STRING(events);
	size = PyBytes_GET_SIZE(events);
	events = PyList_New(0);
	if (!events)
		return NULL;
	for (at = 0; at < PyList_GET_SIZE(records); at++) {
		PyObject *place = PyList_GET_ITEM(records, at);
		Py_ssize_t offset, length;

		if (!PyTuple_CheckExact(place) || PyTuple_GET_SIZE(place) != 2) {
			PyErr_SetString(PyExc_TypeError, "a record is (offset, size)");
			goto fail;
		}
		offset = PyLong_AsSsize_t(PyTuple_GET_ITEM(place, 0));
		length = PyLong_AsSsize_t(PyTuple_GET_ITEM(place, 1));
		if (PyErr_Occurred())
			goto fail;
		if (offset < 0 || offset > size || length < 0) {
			PyErr_SetString(PyExc_ValueError, "a record lies outside its span");
			goto fail;
		}
		if (decode_record(self, data + offset, size - offset, length, events, last, gap, bad))
			goto fail;
	}
	return events;
fail:
	Py_DECREF(events);
	return NULL;
}

static bool is_inside(const struct plan *plan, uint64_t at, uint64_t width)
{
	return at + width <= plan->size;
}

static int read_value(struct plan *plan, PyObject *told)
{
	struct value *value = &plan->value[plan->values];
	PyObject *name;
	int form, is_remembered;

	if (!PyArg_ParseTuple(told, "UiIIp", &name, &form, &value->at, &value->width, &is_remembered))
		return -1;
	value->slot = slot_of(plan->event, name);
	if (value->slot < 0)
		return -1;
	value->form = form;
	value->is_remembered = is_remembered;
	plan->values++;
	switch (value->form) {
	case NUMBER:
		if (value->width == 1 || value->width == 2)
			return is_inside(plan, value->at, value->width) ? 0 : -1;
		/* fall through */
	case SIGNED_NUMBER:
		return (value->width == 4 || value->width == 8) && is_inside(plan, value->at, value->width) ? 0 : -1;
	case BYTES:
	case REST:
		return is_inside(plan, value->at, value->width) ? 0 : -1;
	case TAIL:
		return value->at < (uint32_t)plan->tails ? 0 : -1;
	}
	return -1;
}

static int read_filling(struct plan *plan, PyObject *told)
{
	struct filling *filling = &plan->filling[plan->fillings];
	PyObject *name, *value;

	if (!PyArg_ParseTuple(told, "UO", &name, &value))
		return -1;
	filling->slot = slot_of(plan->event, name);
	if (filling->slot < 0)
		return -1;
	filling->value = Py_NewRef(value);
	plan->fillings++;
	return 0;
}

/* From (event, kind, size, (cpu, sequence, time), lengths, tails of its own, values, fillings) */
static int read_plan(struct plan *plan, PyObject *told)
{
	PyObject *lengths, *values, *fillings;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(told, "O!II(III)O!iO!O!", &PyType_Type, &plan->event, &plan->kind, &plan->size, &plan->cpu_at,
			      &plan->sequence_at, &plan->time_at, &PyTuple_Type, &lengths, &plan->own_tails, &PyTuple_Type,
			      &values, &PyTuple_Type, &fillings)) {
		plan->event = NULL;
		return -1;
	}
	Py_INCREF(plan->event);
	plan->tails = PyTuple_GET_SIZE(lengths);
	if (PyTuple_GET_SIZE(lengths) > MAX_TAILS || PyTuple_GET_SIZE(values) > MAX_VALUES ||
	    PyTuple_GET_SIZE(fillings) > MAX_VALUES || plan->own_tails < 0 || plan->own_tails > plan->tails ||
	    plan->size < PREFIX_SIZE || !is_inside(plan, plan->cpu_at, 4) || !is_inside(plan, plan->sequence_at, 8) ||
	    !is_inside(plan, plan->time_at, 8) || PyType_IS_GC(plan->event))
		goto wrong;
	for (at = 0; at < plan->tails; at++) {
		plan->length_at[at] = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(lengths, at));
		if (PyErr_Occurred() || !is_inside(plan, plan->length_at[at], 4))
			goto wrong;
	}
	for (at = 0; at < PyTuple_GET_SIZE(values); at++)
		if (read_value(plan, PyTuple_GET_ITEM(values, at)))
			goto wrong;
	for (at = 0; at < PyTuple_GET_SIZE(fillings); at++)
		if (read_filling(plan, PyTuple_GET_ITEM(fillings, at)))
			goto wrong;
	return 0;
wrong:
	if (!PyErr_Occurred())
		PyErr_Format(PyExc_ValueError, "the plan of kind %u cannot be followed", plan->kind);
	return -1;
}

static int decoder_init(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
	struct decoder *self = (struct decoder *)object;
	PyObject *plans;
	Py_ssize_t at;

	if (self->plan || !PyArg_ParseTuple(args, "O!", &PyTuple_Type, &plans)) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "a decoder has its plans");
		return -1;
	}
	self->plan = PyMem_Calloc(PyTuple_GET_SIZE(plans) + 1, sizeof(*self->plan));
	if (!self->plan) {
		PyErr_NoMemory();
		return -1;
	}
	for (at = 0; at < PyTuple_GET_SIZE(plans); at++) {
		self->plans++;
		if (read_plan(&self->plan[at], PyTuple_GET_ITEM(plans, at)))
			return -1;
		if (at && self->plan[at - 1].kind >= self->plan[at].kind) {
			PyErr_SetString(PyExc_ValueError, "plans are in the order of their kinds");
			return -1;
		}
	}
	return 0;
}

static void decoder_dealloc(PyObject *object)
{
	struct decoder *self = (struct decoder *)object;
	PyTypeObject *type = Py_TYPE(object);
	Py_ssize_t at;

	for (at = 0; at < self->plans; at++) {
		struct plan *plan = &self->plan[at];

		while (plan->fillings)
			Py_DECREF(plan->filling[--plan->fillings].value);
		Py_XDECREF(plan->event);
	}
	PyMem_Free(self->plan);
	for (at = 0; at < PIECES; at++)
		Py_XDECREF(self->piece[at]);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyMethodDef decoder_methods[] = {
	{ "decode", (PyCFunction)decode, METH_VARARGS, NULL },
	{ NULL },
};

static PyType_Slot decoder_slots[] = {
	{ Py_tp_new, PyType_GenericNew },
	{ Py_tp_init, decoder_init },
	{ Py_tp_dealloc, decoder_dealloc },
	{ Py_tp_methods, decoder_methods },
	{ 0 },
};

static PyType_Spec decoder_spec = {
	.name = "probes.native.Decoder",
	.basicsize = sizeof(struct decoder),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = decoder_slots,
};

/*
 * msgspec's own assignment asks each time whether the class is frozen, and
 * keeps the interpreter from writing the slot itself. Of a class that is not
 * frozen and takes no part in the collection of garbage it does nothing else.
 */
static PyObject *plain_assignment(PyObject *Py_UNUSED(module), PyObject *type)
{
	if (!PyType_Check(type) || !PyType_HasFeature((PyTypeObject *)type, Py_TPFLAGS_HEAPTYPE) ||
	    PyType_IS_GC((PyTypeObject *)type)) {
		PyErr_SetString(PyExc_TypeError, "only for classes with gc=False");
		return NULL;
	}
	((PyTypeObject *)type)->tp_setattro = PyObject_GenericSetAttr;
	PyType_Modified((PyTypeObject *)type);
	return Py_NewRef(type);
}

static PyMethodDef native_methods[] = {
	{ "plain_assignment", plain_assignment, METH_O, NULL },
	{ NULL },
};

static int native_exec(PyObject *module)
{
	PyObject *type = PyType_FromModuleAndSpec(module, &decoder_spec, NULL);
	int error;

	if (!type)
		return -1;
	error = PyModule_AddType(module, (PyTypeObject *)type);
	Py_DECREF(type);
	return error;
}

static PyModuleDef_Slot native_slots[] = {
	{ Py_mod_exec, native_exec },
	{ 0 },
};

static struct PyModuleDef native_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "native",
	.m_methods = native_methods,
	.m_slots = native_slots,
};

PyMODINIT_FUNC PyInit_native(void)
{
	return PyModuleDef_Init(&native_module);
}
