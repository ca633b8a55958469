// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What enrichments do to every event, a list at a time: Tracker takes the
 * usual turns of pipeline.enrich.process_tree.ProcessTree and leaves the
 * others to it, Assignment is that of pipeline.enrich.assignment.
 */
#include "../../probes/slots.h"

#include <stdbool.h>
#include <string.h>

#define MAX_TARGETS 4

/* Fields of a ProcessEvent, and of an Execve. */
enum { TGID, START_TIME, ORIGIN, EXE_FILE, COMM, EXE, PID_TREE, PARENT_PIECE, EVENT_SLOTS };
static const char *const event_names[EVENT_SLOTS] = {
	"tgid", "start_time", "origin", "exe_file", "comm", "exe", "pid_tree", "parent",
};

/* Fields of a Process, as it takes them and behind these. */
enum {
	P_TGID, P_START, P_PARENT, P_COMM, P_EXE, P_EXE_FILE, P_ARGUMENTS,
	P_LINE = P_ARGUMENTS, P_LINE_LENGTH, P_EPOCH, P_HAS_CHILDREN, P_HAS_ENDED, P_ASKED, P_AS_PARENT, PROCESS_SLOTS
};
static const char *const process_names[PROCESS_SLOTS] = {
	"tgid", "start", "parent", "comm", "exe", "exe_file",
	"line", "line_length", "epoch", "has_children", "has_ended", "asked", "as_parent",
};

struct tracker {
	PyObject_HEAD
	PyTypeObject *event, *execution, *process;
	PyObject *others;		/* the classes that are left to Python, a tuple */
	PyObject *bodies;		/* what reads an execution's body */
	Py_ssize_t exe_path, result;	/* places in what that gives */
	Py_ssize_t depth, most;		/* processes of a line, and of the table */
	unsigned long long tick;	/* ns, of the start times that /proc tells */
	Py_ssize_t event_slot[EVENT_SLOTS], body_slot, process_slot[PROCESS_SLOTS];
	Py_ssize_t met;
	PyObject *fresh;		/* what a Process has behind its arguments at first, a tuple */
	PyObject *empty, *none_yet;	/* "", and the epoch of what has no line: two of these */
};

/* The tree's own, for one list: borrowed. */
struct tree {
	PyObject *processes, *parents, *names, *epoch;
	PyObject *exited;		/* a function, told of whose id another process has */
	PyObject *line_of, *tell_parent;	/* functions for what is rare; the second None if nobody asks */
};

enum turn { FAILED = -1, FOR_PYTHON, TAKEN };

static PyObject *get(const struct tracker *self, PyObject *process, int field)
{
	return get_slot(process, self->process_slot[field]);
}

static void set(const struct tracker *self, PyObject *process, int field, PyObject *value)
{
	set_slot(process, self->process_slot[field], value);
}

static bool is_set(const struct tracker *self, PyObject *process, int flag)
{
	return *(PyObject **)((char *)process + self->process_slot[flag]) == Py_True;
}

/* 1, 0, or -1 with an exception */
static int are_equal(PyObject *one, Py_ssize_t slot, PyObject *other, Py_ssize_t other_slot)
{
	PyObject *a = get_slot(one, slot), *b = a ? get_slot(other, other_slot) : NULL;
	int result = b ? PyObject_RichCompareBool(a, b, Py_EQ) : -1;

	Py_XDECREF(a);
	Py_XDECREF(b);
	return result;
}

/* 1, 0, or -1 with an exception */
static int has_line(const struct tracker *self, const struct tree *tree, PyObject *process)
{
	PyObject *epoch = get(self, process, P_EPOCH);
	int result = epoch ? PyObject_RichCompareBool(epoch, tree->epoch, Py_EQ) : -1;

	Py_XDECREF(epoch);
	return result;
}

/* line->tgid(name) */
static PyObject *longer(PyObject *line, PyObject *tgid, PyObject *name)
{
	Py_ssize_t before, behind;
	char digits[24], *at = digits + sizeof(digits), *to;
	unsigned long number;
	PyObject *made;
	int size;

	if (!PyUnicode_Check(line) || !PyUnicode_Check(name) || !PyUnicode_IS_COMPACT_ASCII(line) ||
	    !PyUnicode_IS_COMPACT_ASCII(name) || !PyLong_Check(tgid))
		return PyUnicode_FromFormat("%S->%S(%S)", line, tgid, name);
	number = PyLong_AsUnsignedLong(tgid);
	if (number == (unsigned long)-1 && PyErr_Occurred())
		return NULL;
	*--at = '(';
	do {
		*--at = '0' + number % 10;
		number /= 10;
	} while (number);
	*--at = '>';
	*--at = '-';
	size = digits + sizeof(digits) - at;
	before = PyUnicode_GET_LENGTH(line);
	behind = PyUnicode_GET_LENGTH(name);
	made = PyUnicode_New(before + size + behind + 1, 127);
	if (!made)
		return NULL;
	to = (char *)PyUnicode_1BYTE_DATA(made);
	memcpy(to, PyUnicode_1BYTE_DATA(line), before);
	memcpy(to + before, at, size);
	memcpy(to + before + size, PyUnicode_1BYTE_DATA(name), behind);
	to[before + size + behind] = ')';
	return made;
}

/* From the parent's line, which is there; kept from the second time on that it is asked for. */
static PyObject *line_behind(struct tracker *self, const struct tree *tree, PyObject *process, PyObject *parent,
			     Py_ssize_t length)
{
	PyObject *line = get(self, parent, P_LINE), *tgid = get(self, process, P_TGID);
	PyObject *comm = get(self, process, P_COMM), *name = comm ? found(tree->names, comm) : NULL, *made = NULL, *number;

	if (line && tgid && name)
		made = longer(line, tgid, name);
	Py_XDECREF(line);
	Py_XDECREF(tgid);
	Py_XDECREF(comm);
	Py_XDECREF(name);
	if (made && is_set(self, process, P_ASKED)) {
		number = PyLong_FromSsize_t(length + 1);
		if (!number)
			Py_CLEAR(made);
		else
			set(self, process, P_LINE_LENGTH, number);
		Py_XDECREF(number);
		if (made) {
			set(self, process, P_LINE, made);
			set(self, process, P_EPOCH, tree->epoch);
		}
	}
	set(self, process, P_ASKED, Py_True);
	return made;
}

static PyObject *line_of(struct tracker *self, const struct tree *tree, PyObject *process)
{
	int is_made = has_line(self, tree, process);
	PyObject *parent, *number, *line = NULL;
	Py_ssize_t length;

	if (is_made)
		return is_made > 0 ? get(self, process, P_LINE) : NULL;
	parent = get(self, process, P_PARENT);
	if (!parent)
		return NULL;
	is_made = parent == Py_None ? 0 : has_line(self, tree, parent);
	number = is_made > 0 ? get(self, parent, P_LINE_LENGTH) : NULL;
	length = number ? PyLong_AsSsize_t(number) : 0;
	Py_XDECREF(number);
	if (number && length >= 0 && length < self->depth)
		line = line_behind(self, tree, process, parent, length);
	else if (is_made >= 0 && !PyErr_Occurred())
		line = PyObject_CallOneArg(tree->line_of, process);
	Py_DECREF(parent);
	return line;
}

/* The fields of an execution's body: a new reference. */
static PyObject *body_of(const struct tracker *self, PyObject *event)
{
	PyObject *body = get_slot(event, self->body_slot), *fields = body ? found(self->bodies, body) : NULL;

	Py_XDECREF(body);
	if (fields && (!PyTuple_Check(fields) || PyTuple_GET_SIZE(fields) <= self->exe_path ||
		       PyTuple_GET_SIZE(fields) <= self->result)) {
		PyErr_SetString(PyExc_TypeError, "an execution's body has other fields");
		Py_CLEAR(fields);
	}
	return fields;
}

static enum turn executed(struct tracker *self, PyObject *process, PyObject *event)
{
	PyObject *body, *file, *comm = NULL;
	enum turn turn = FAILED;
	int is_failure;

	if (is_set(self, process, P_HAS_CHILDREN))
		return FOR_PYTHON;
	body = body_of(self, event);
	file = body ? get_slot(event, self->event_slot[EXE_FILE]) : NULL;
	is_failure = file ? PyObject_IsTrue(PyTuple_GET_ITEM(body, self->result)) : -1;
	if (is_failure >= 0)
		comm = get_slot(event, self->event_slot[COMM]);
	if (comm) {
		set(self, process, P_EXE, PyTuple_GET_ITEM(body, self->exe_path));
		set(self, process, P_EXE_FILE, file);
		set(self, process, P_AS_PARENT, self->empty);
		if (!is_failure) {
			set(self, process, P_COMM, comm);
			set(self, process, P_EPOCH, self->none_yet);
		}
		turn = TAKEN;
	}
	Py_XDECREF(body);
	Py_XDECREF(file);
	Py_XDECREF(comm);
	return turn;
}

/* What a call of the class makes, which takes longer. */
static PyObject *new_process(const struct tracker *self, PyObject *event, PyObject *parent)
{
	static const int told[][2] = {
		{ P_TGID, TGID }, { P_START, START_TIME }, { P_COMM, COMM }, { P_EXE_FILE, EXE_FILE },
	};
	PyObject *body = body_of(self, event), *process;
	size_t at;

	if (!body)
		return NULL;
	process = self->process->tp_alloc(self->process, 0);
	for (at = 0; process && at < sizeof(told) / sizeof(*told); at++) {
		PyObject *value = get_slot(event, self->event_slot[told[at][1]]);

		if (value)
			set(self, process, told[at][0], value);
		else
			Py_CLEAR(process);
		Py_XDECREF(value);
	}
	if (process) {
		set(self, process, P_PARENT, parent);
		set(self, process, P_EXE, PyTuple_GET_ITEM(body, self->exe_path));
		for (at = P_ARGUMENTS; at < PROCESS_SLOTS; at++)
			set(self, process, at, PyTuple_GET_ITEM(self->fresh, at - P_ARGUMENTS));
	}
	Py_DECREF(body);
	return process;
}

/* The process of an execution that the table does not hold, but its parent; it takes the place of "*process". */
static enum turn meet(struct tracker *self, const struct tree *tree, PyObject *event, PyObject *tgid, PyObject **process)
{
	PyObject *origin, *parent, *made = NULL;
	enum turn turn = FAILED;

	if (!Py_IS_TYPE(event, self->execution) || PyDict_GET_SIZE(tree->processes) >= self->most)
		return FOR_PYTHON;
	origin = get_slot(event, self->event_slot[ORIGIN]);
	parent = origin ? Py_XNewRef(PyDict_GetItemWithError(tree->parents, origin)) : NULL;
	Py_XDECREF(origin);
	if (!parent)
		return PyErr_Occurred() ? FAILED : FOR_PYTHON;
	if (!Py_IS_TYPE(parent, self->process))
		PyErr_SetString(PyExc_TypeError, "the parents are processes");
	else
		made = new_process(self, event, parent);
	if (made && PyDict_SetItem(tree->processes, tgid, made) == 0) {
		PyObject *told = *process ? PyObject_CallOneArg(tree->exited, *process) : Py_NewRef(Py_None);

		set(self, parent, P_HAS_CHILDREN, Py_True);
		self->met++;
		turn = told ? TAKEN : FAILED;
		Py_XSETREF(*process, Py_NewRef(made));
		Py_XDECREF(told);
	}
	Py_XDECREF(made);
	Py_DECREF(parent);
	return turn;
}

/* An event of another start time than the process that the table holds under its id. */
static enum turn meet_another(struct tracker *self, const struct tree *tree, PyObject *event, PyObject *tgid,
			      PyObject **process)
{
	PyObject *number = get(self, *process, P_START);
	unsigned long long start = number ? PyLong_AsUnsignedLongLong(number) : 0;

	Py_XDECREF(number);
	if (PyErr_Occurred())
		return FAILED;
	/* It may be the same one, whose start time /proc told, rounded. */
	return start % self->tick ? meet(self, tree, event, tgid, process) : FOR_PYTHON;
}

/* A process whose id the table holds, and what the event says of it. */
static enum turn meet_again(struct tracker *self, const struct tree *tree, PyObject *event, PyObject *tgid,
			    PyObject **process)
{
	int result = are_equal(event, self->event_slot[START_TIME], *process, self->process_slot[P_START]);

	if (result <= 0)
		return result ? FAILED : meet_another(self, tree, event, tgid, process);
	if (Py_IS_TYPE(event, self->execution))
		return executed(self, *process, event);
	if (PySequence_Contains(self->others, (PyObject *)Py_TYPE(event)))
		return PyErr_Occurred() ? FAILED : FOR_PYTHON;
	result = are_equal(event, self->event_slot[EXE_FILE], *process, self->process_slot[P_EXE_FILE]);
	return result < 0 ? FAILED : result ? TAKEN : FOR_PYTHON;
}

static int tell_parent(struct tracker *self, const struct tree *tree, PyObject *event)
{
	PyObject *origin = get_slot(event, self->event_slot[ORIGIN]), *parent, *piece = NULL, *told;

	if (!origin)
		return -1;
	parent = PyDict_GetItemWithError(tree->parents, origin);
	Py_DECREF(origin);
	if (parent)
		piece = get(self, parent, P_AS_PARENT);
	if (piece && PyObject_IsTrue(piece) > 0) {
		set_slot(event, self->event_slot[PARENT_PIECE], piece);
		Py_DECREF(piece);
		return 0;
	}
	Py_XDECREF(piece);
	if (PyErr_Occurred())
		return -1;
	told = PyObject_CallOneArg(tree->tell_parent, event);
	Py_XDECREF(told);
	return told ? 0 : -1;
}

static int tell(struct tracker *self, const struct tree *tree, PyObject *event, PyObject *process)
{
	PyObject *exe = get(self, process, P_EXE), *line = exe ? line_of(self, tree, process) : NULL;

	if (line) {
		set_slot(event, self->event_slot[EXE], exe);
		set_slot(event, self->event_slot[PID_TREE], line);
	}
	Py_XDECREF(exe);
	Py_XDECREF(line);
	if (!line || (tree->tell_parent != Py_None && tell_parent(self, tree, event)))
		return -1;
	if (is_set(self, process, P_HAS_ENDED)) {
		set(self, process, P_LINE, self->empty);
		set(self, process, P_EPOCH, self->none_yet);
	}
	return 0;
}

static enum turn take(struct tracker *self, const struct tree *tree, PyObject *event)
{
	PyObject *tgid, *process;
	enum turn turn = FAILED;

	if (!PyObject_TypeCheck(event, self->event)) {
		PyErr_Format(PyExc_TypeError, "a %.100s is no event of a process", Py_TYPE(event)->tp_name);
		return FAILED;
	}
	tgid = get_slot(event, self->event_slot[TGID]);
	if (!tgid)
		return FAILED;
	process = Py_XNewRef(PyDict_GetItemWithError(tree->processes, tgid));
	if (process && !Py_IS_TYPE(process, self->process))
		PyErr_SetString(PyExc_TypeError, "the table holds processes");
	else if (process)
		turn = meet_again(self, tree, event, tgid, &process);
	else if (!PyErr_Occurred())
		turn = meet(self, tree, event, tgid, &process);
	if (turn == TAKEN && tell(self, tree, event, process))
		turn = FAILED;
	Py_DECREF(tgid);
	Py_XDECREF(process);
	return turn;
}

static PyObject *track(struct tracker *self, PyObject *args)
{
	PyObject *events;
	struct tree tree;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(args, "O!nO!O!OOOOO", &PyList_Type, &events, &at, &PyDict_Type, &tree.processes, &PyDict_Type,
			      &tree.parents, &tree.names, &tree.epoch, &tree.exited, &tree.line_of,
			      &tree.tell_parent))
		return NULL;
	for (; at >= 0 && at < PyList_GET_SIZE(events); at++) {
		PyObject *event = Py_NewRef(PyList_GET_ITEM(events, at));
		enum turn turn = take(self, &tree, event);

		Py_DECREF(event);
		if (turn == FAILED)
			return NULL;
		if (turn == FOR_PYTHON)
			break;
	}
	return PyLong_FromSsize_t(at);
}

static int find_slots(PyTypeObject *type, const char *const *names, Py_ssize_t *slots, int number)
{
	int at;

	for (at = 0; at < number; at++) {
		PyObject *name = PyUnicode_FromString(names[at]);

		slots[at] = name ? slot_of(type, name) : -1;
		Py_XDECREF(name);
		if (slots[at] < 0)
			return -1;
	}
	return 0;
}

static int tracker_init(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
	struct tracker *self = (struct tracker *)object;
	static const char *const body = "body";
	PyObject *event, *execution, *process, *others, *bodies, *fresh;

	if (self->event || !PyArg_ParseTuple(args, "O!O!O!O!O!O(nn)nnK", &PyType_Type, &event, &PyType_Type,
					     &execution, &PyType_Type, &process, &PyTuple_Type, &fresh, &PyTuple_Type,
					     &others, &bodies, &self->exe_path, &self->result, &self->depth,
					     &self->most, &self->tick)) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "a tracker is made once");
		return -1;
	}
	self->event = (PyTypeObject *)Py_NewRef(event);
	self->execution = (PyTypeObject *)Py_NewRef(execution);
	self->process = (PyTypeObject *)Py_NewRef(process);
	self->others = Py_NewRef(others);
	self->bodies = Py_NewRef(bodies);
	self->fresh = Py_NewRef(fresh);
	if (!PyType_IsSubtype(self->execution, self->event) || PyType_IS_GC(self->process) || self->exe_path < 0 ||
	    self->result < 0 || !self->tick || PyTuple_GET_SIZE(fresh) != PROCESS_SLOTS - P_ARGUMENTS) {
		PyErr_SetString(PyExc_ValueError, "these classes cannot be tracked");
		return -1;
	}
	self->empty = PyTuple_GET_ITEM(fresh, P_LINE - P_ARGUMENTS);
	self->none_yet = PyTuple_GET_ITEM(fresh, P_EPOCH - P_ARGUMENTS);
	return find_slots(self->event, event_names, self->event_slot, EVENT_SLOTS) ||
			       find_slots(self->execution, &body, &self->body_slot, 1) ||
			       find_slots(self->process, process_names, self->process_slot, PROCESS_SLOTS) ?
		       -1 :
		       0;
}

static void tracker_dealloc(PyObject *object)
{
	struct tracker *self = (struct tracker *)object;
	PyTypeObject *type = Py_TYPE(object);

	Py_XDECREF(self->event);
	Py_XDECREF(self->execution);
	Py_XDECREF(self->process);
	Py_XDECREF(self->others);
	Py_XDECREF(self->bodies);
	Py_XDECREF(self->fresh);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyMethodDef tracker_methods[] = {
	{ "track", (PyCFunction)track, METH_VARARGS, NULL },
	{ NULL },
};

static PyMemberDef tracker_members[] = {
	{ "met", T_PYSSIZET, offsetof(struct tracker, met), READONLY, NULL },
	{ NULL },
};

static PyType_Slot tracker_slots[] = {
	{ Py_tp_new, PyType_GenericNew },
	{ Py_tp_init, tracker_init },
	{ Py_tp_dealloc, tracker_dealloc },
	{ Py_tp_methods, tracker_methods },
	{ Py_tp_members, tracker_members },
	{ 0 },
};

static PyType_Spec tracker_spec = {
	.name = "pipeline.enrich.native.Tracker",
	.basicsize = sizeof(struct tracker),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = tracker_slots,
};

struct assignment {
	PyObject_HEAD
	PyTypeObject *event;
	Py_ssize_t key, unless, target[MAX_TARGETS];	/* "unless": negative if there is none */
	int targets;
};

static int assign_value(const struct assignment *self, PyObject *event, PyObject *value)
{
	int at;

	if (self->targets == 1) {
		set_slot(event, self->target[0], value);
		return 0;
	}
	if (!PyTuple_Check(value) || PyTuple_GET_SIZE(value) != self->targets) {
		PyErr_SetString(PyExc_TypeError, "a value for each field");
		return -1;
	}
	for (at = 0; at < self->targets; at++)
		set_slot(event, self->target[at], PyTuple_GET_ITEM(value, at));
	return 0;
}

/* 1, 0, or -1 with an exception */
static int is_exempt(const struct assignment *self, PyObject *event)
{
	PyObject *value = self->unless < 0 ? NULL : get_slot(event, self->unless);
	int result = value ? PyObject_IsTrue(value) : self->unless < 0 ? 0 : -1;

	Py_XDECREF(value);
	return result;
}

static PyObject *assign(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
	struct assignment *self = (struct assignment *)object;
	PyObject *events, *values, *rest;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &events, &PyDict_Type, &values))
		return NULL;
	rest = PyList_New(0);
	for (at = 0; rest && at < PyList_GET_SIZE(events); at++) {
		PyObject *event = Py_NewRef(PyList_GET_ITEM(events, at)), *key = NULL, *value = NULL;

		if (!PyObject_TypeCheck(event, self->event))
			PyErr_SetString(PyExc_TypeError, "an event of another class");
		else if (is_exempt(self, event) == 0)
			key = get_slot(event, self->key);
		if (key)
			value = Py_XNewRef(PyDict_GetItemWithError(values, key));
		if (value)
			(void)assign_value(self, event, value);
		else if (key && !PyErr_Occurred())
			(void)PyList_Append(rest, event);
		Py_XDECREF(key);
		Py_XDECREF(value);
		Py_DECREF(event);
		if (PyErr_Occurred())
			Py_CLEAR(rest);
	}
	return rest;
}

static int assignment_init(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
	struct assignment *self = (struct assignment *)object;
	PyObject *event, *key, *targets, *unless;

	if (self->event ||
	    !PyArg_ParseTuple(args, "O!UO!O", &PyType_Type, &event, &key, &PyTuple_Type, &targets, &unless)) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "an assignment is made once");
		return -1;
	}
	self->event = (PyTypeObject *)Py_NewRef(event);
	self->key = slot_of(self->event, key);
	self->unless = unless == Py_None ? -1 : slot_of(self->event, unless);
	if (self->key < 0 || PyErr_Occurred())
		return -1;
	if (PyTuple_GET_SIZE(targets) < 1 || PyTuple_GET_SIZE(targets) > MAX_TARGETS) {
		PyErr_SetString(PyExc_ValueError, "an assignment has one field or a few");
		return -1;
	}
	for (; self->targets < PyTuple_GET_SIZE(targets); self->targets++) {
		self->target[self->targets] = slot_of(self->event, PyTuple_GET_ITEM(targets, self->targets));
		if (self->target[self->targets] < 0)
			return -1;
	}
	return 0;
}

static void assignment_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	Py_XDECREF(((struct assignment *)object)->event);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyType_Slot assignment_slots[] = {
	{ Py_tp_new, PyType_GenericNew },
	{ Py_tp_init, assignment_init },
	{ Py_tp_dealloc, assignment_dealloc },
	{ Py_tp_call, assign },
	{ 0 },
};

static PyType_Spec assignment_spec = {
	.name = "pipeline.enrich.native.Assignment",
	.basicsize = sizeof(struct assignment),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = assignment_slots,
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
	int error = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;

	Py_XDECREF(type);
	return error;
}

static int native_exec(PyObject *module)
{
	return add_type(module, &tracker_spec) || add_type(module, &assignment_spec) ? -1 : 0;
}

static PyModuleDef_Slot native_slots[] = {
	{ Py_mod_exec, native_exec },
	{ 0 },
};

static struct PyModuleDef native_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "native",
	.m_slots = native_slots,
};

PyMODINIT_FUNC PyInit_native(void)
{
	return PyModuleDef_Init(&native_module);
}
