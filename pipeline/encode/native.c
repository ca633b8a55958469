// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events to lines, a list at a time: what the functions of
 * pipeline.encode.document do, by the steps of pipeline.encode.steps. Both
 * give the same bytes; see docs/architecture.md for why there are two.
 *
 * Fields are read where the class's own member descriptors say that they lie,
 * of objects of exactly that class. Whatever is rare or long-winded is left
 * to functions in Python, which a step names.
 */
#include "../../probes/slots.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define MAX_SOURCES 8
#define MAX_KEYS 8
#define MAX_DEPTH 8
#define LINE_GUESS 1024		/* bytes */
#define LATELY 32		/* keys of a source; a power of two */
#define NS 1000000000ll

/* What a step appends behind its text; see pipeline.encode.steps for the arguments. */
enum operation {
	NOTHING,
	DECIMAL,		/* a number */
	HEXADECIMAL,		/* its 16 digits */
	MAPPED,			/* what "function", a mapping, has for the field */
	FRAGMENT,		/* item "number" of a source, all of it if negative */
	ARGUMENTS,		/* an argv as one string, each argument ended by a space */
	ARGUMENT_LIST,		/* as a list of strings */
	ARGUMENT_COUNT,
	COMMAND_LINE,		/* as one string, the last argument not ended */
	TEXT,			/* a str as a string; with a "number", nothing of one that is unknown */
	MILLISECONDS,		/* a time, "number" added */
	TIME,			/* the same in ISO 8601; of 0 nothing if optional */
	UNLESS_ZERO,		/* what "function" makes of the field */
	CALL,			/* what "function" makes of the event */
	OPEN, CLOSE,		/* an object, unless nothing is in it */
	OPERATIONS
};

struct step {
	PyObject *text;		/* bytes; before the value */
	PyObject *function;
	enum operation operation;
	Py_ssize_t field;	/* offset */
	long long number;
	bool is_optional;	/* no text where there is no value */
	int64_t second;		/* which "date" is of */
	char date[20];
};

struct source {
	Py_ssize_t field[MAX_KEYS];
	int fields;
	bool is_tuple;
	PyObject *find;		/* a dict, or a function */
	PyObject **lately;	/* for each key its objects, and what was found */
};

struct writer {
	PyObject_HEAD
	PyTypeObject *event;
	Py_ssize_t steps, sources;
	struct step *step;
	struct source source[MAX_SOURCES];
};

struct output {
	PyObject *bytes;
	char *start;
	Py_ssize_t length, room;
};

static int resize(struct output *out, Py_ssize_t room)
{
	if (_PyBytes_Resize(&out->bytes, room))
		return -1;
	out->start = PyBytes_AS_STRING(out->bytes);
	out->room = room;
	return 0;
}

/* Where the next bytes go, of which there may be so many. */
static inline char *next(struct output *out, Py_ssize_t size)
{
	if (size > out->room - out->length) {
		if (size > PY_SSIZE_T_MAX / 2 - out->room) {
			PyErr_NoMemory();
			return NULL;
		}
		if (resize(out, out->room + out->room / 2 + size))
			return NULL;
	}
	return out->start + out->length;
}

static inline int put(struct output *out, const char *from, Py_ssize_t size)
{
	char *to = next(out, size);

	if (!to)
		return -1;
	memcpy(to, from, size);
	out->length += size;
	return 0;
}

static int put_bytes(struct output *out, PyObject *bytes)
{
	if (!PyBytes_Check(bytes)) {
		PyErr_Format(PyExc_TypeError, "bytes are written, not %.100s", Py_TYPE(bytes)->tp_name);
		return -1;
	}
	return put(out, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* Takes the reference. */
static int put_made(struct output *out, PyObject *made)
{
	int error = made ? put_bytes(out, made) : -1;

	Py_XDECREF(made);
	return error;
}

static int put_unsigned(struct output *out, uint64_t number, bool is_negative)
{
	char digits[24], *at = digits + sizeof(digits);

	/* Two at a time: long divisions are what takes the time. */
	for (; number >= 10; number /= 100) {
		unsigned int pair = number % 100;

		*--at = '0' + pair % 10;
		*--at = '0' + pair / 10;
	}
	if (number || at == digits + sizeof(digits))
		*--at = '0' + number;
	if (is_negative)
		*--at = '-';
	return put(out, at, digits + sizeof(digits) - at);
}

static int put_signed(struct output *out, long long number)
{
	return put_unsigned(out, number < 0 ? -(uint64_t)number : (uint64_t)number, number < 0);
}

/* As "%d" and "%016x" do. */
static int put_number(struct output *out, PyObject *value, bool is_hexadecimal)
{
	int overflow = 0;
	long long number = PyLong_Check(value) ? PyLong_AsLongLongAndOverflow(value, &overflow) : 0;
	PyObject *format, *made = NULL;

	if (PyLong_Check(value) && !overflow && !is_hexadecimal)
		return put_signed(out, number);
	format = PyBytes_FromString(is_hexadecimal ? "%016x" : "%d");
	if (format) {
		made = PyNumber_Remainder(format, value);
		Py_DECREF(format);
	}
	return put_made(out, made);
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* 0x80 in each byte that is zero. */
static inline uint64_t zeros(uint64_t word)
{
	return ~(((word & EACH(0x7f)) + EACH(0x7f)) | word) & EACH(0x80);
}

/* Whether one of the eight bytes does not stand for itself in a JSON string, or is not ASCII. */
static inline bool is_special(uint64_t word)
{
	return (word & EACH(0x80)) || zeros(word & EACH(0x60)) || zeros(word ^ EACH('"')) || zeros(word ^ EACH('\\')) ||
	       zeros(word ^ EACH(0x7f));
}

/*
 * As json.encoder.encode_basestring_ascii, without the quotes; 1 if there is a
 * byte that is not ASCII, and then nothing is appended.
 */
static int put_escaped(struct output *out, const unsigned char *from, Py_ssize_t size, bool has_spaces)
{
	static const char hexadecimal[] = "0123456789abcdef";
	const unsigned char *end = from + size;
	char *start, *to;

	if (size > PY_SSIZE_T_MAX / 12) {
		PyErr_NoMemory();
		return -1;
	}
	start = to = next(out, 6 * size);
	if (!start)
		return -1;
	while (from < end) {
		unsigned char byte;
		uint64_t word;

		if (end - from >= 8) {
			memcpy(&word, from, 8);
			if (has_spaces)
				word |= zeros(word) >> 2; /* 0x80 to a space */
			if (!is_special(word)) {
				memcpy(to, &word, 8);
				to += 8;
				from += 8;
				continue;
			}
		}
		byte = *from++;
		if (byte >= 0x80)
			return 1;
		if (byte == 0 && has_spaces)
			byte = ' ';
		if (byte >= ' ' && byte != '"' && byte != '\\' && byte != 0x7f) {
			*to++ = byte;
			continue;
		}
		*to++ = '\\';
		switch (byte) {
		case '"':
		case '\\':
			*to++ = byte;
			break;
		case '\b':
			*to++ = 'b';
			break;
		case '\f':
			*to++ = 'f';
			break;
		case '\n':
			*to++ = 'n';
			break;
		case '\r':
			*to++ = 'r';
			break;
		case '\t':
			*to++ = 't';
			break;
		default:
			memcpy(to, "u00", 3);
			to[3] = hexadecimal[byte >> 4];
			to[4] = hexadecimal[byte & 15];
			to += 5;
		}
	}
	out->length += to - start;
	return 0;
}

/* 1 as of put_escaped */
static int put_string(struct output *out, const char *from, Py_ssize_t size, bool has_spaces)
{
	int error = put(out, "\"", 1);

	if (!error)
		error = put_escaped(out, (const unsigned char *)from, size, has_spaces);
	return error ? error : put(out, "\"", 1);
}

static int put_argument_list(struct output *out, const char *from, Py_ssize_t size)
{
	const char *end = from + size;
	bool is_first = true;
	int error = put(out, "[", 1);

	while (!error && (from < end || is_first) && size) {
		const char *stop = memchr(from, 0, end - from);

		if (!stop)
			stop = end;
		if (!is_first)
			error = put(out, ",", 1);
		if (!error)
			error = put_string(out, from, stop - from, false);
		is_first = false;
		from = stop + 1;
	}
	return error ? error : put(out, "]", 1);
}

static Py_ssize_t argument_count(const char *from, Py_ssize_t size)
{
	Py_ssize_t count = 0, at;

	for (at = 0; at < size; at++)
		count += !from[at];
	return size ? count + (from[size - 1] != 0) : 0;
}

static int put_arguments(struct output *out, const struct step *step, PyObject *value)
{
	const char *from;
	Py_ssize_t size, start = out->length;
	int error;

	if (!PyBytes_Check(value)) {
		PyErr_SetString(PyExc_TypeError, "arguments are bytes");
		return -1;
	}
	from = PyBytes_AS_STRING(value);
	size = PyBytes_GET_SIZE(value);
	switch (step->operation) {
	case ARGUMENT_COUNT:
		return put_signed(out, argument_count(from, size));
	case ARGUMENT_LIST:
		error = put_argument_list(out, from, size);
		break;
	case COMMAND_LINE:
		size -= size && !from[size - 1];
		error = size ? put_string(out, from, size, true) : 0;
		break;
	default:
		error = put_string(out, from, size, true);
	}
	if (error <= 0)
		return error;
	out->length = start;
	return put_made(out, PyObject_CallOneArg(step->function, value));
}

static int put_text(struct output *out, const struct step *step, PyObject *value)
{
	Py_ssize_t start = out->length;

	if (PyUnicode_Check(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
		const char *text = (const char *)PyUnicode_1BYTE_DATA(value);
		Py_ssize_t size = PyUnicode_GET_LENGTH(value);
		int error;

		if (step->number && (size == 0 || (size == 2 && !memcmp(text, "-1", 2))))
			return 0;
		error = put_string(out, text, size, false);
		if (error <= 0)
			return error;
		out->length = start;
	}
	return put_made(out, PyObject_CallOneArg(step->function, value));
}

/* What lies before 1970 or after 2262 is left to Python. */
static int put_time(struct output *out, struct step *step, PyObject *value)
{
	int overflow = 0;
	long long time = PyLong_Check(value) ? PyLong_AsLongLongAndOverflow(value, &overflow) : -1;
	long long nanoseconds;
	struct tm parts;
	char *to;
	int at;

	if (time < 0 || overflow || __builtin_add_overflow(time, step->number, &time) || time < 0)
		return put_made(out, PyObject_CallOneArg(step->function, value));
	if (step->operation == MILLISECONDS)
		return put_signed(out, time / 1000000);
	if (step->second != time / NS) {
		time_t second = time / NS;

		if (!gmtime_r(&second, &parts) || strftime(step->date, sizeof(step->date), "%Y-%m-%dT%H:%M:%S", &parts) != 19)
			return put_made(out, PyObject_CallOneArg(step->function, value));
		step->second = second;
	}
	to = next(out, 32);
	if (!to)
		return -1;
	*to = '"';
	memcpy(to + 1, step->date, 19);
	to[20] = '.';
	nanoseconds = time % NS;
	for (at = 29; at > 20; at--, nanoseconds /= 10)
		to[at] = '0' + nanoseconds % 10;
	memcpy(to + 30, "Z\"", 2);
	out->length += 32;
	return 0;
}

static PyObject *key_of(const struct source *source, PyObject *event)
{
	PyObject *key;
	int at;

	if (!source->is_tuple)
		return get_slot(event, source->field[0]);
	key = PyTuple_New(source->fields);
	for (at = 0; key && at < source->fields; at++) {
		PyObject *value = get_slot(event, source->field[at]);

		if (value)
			PyTuple_SET_ITEM(key, at, value);
		else
			Py_CLEAR(key);
	}
	return key;
}

/*
 * Earlier stages give events the same objects for the same values, so that
 * these, which are held here and never change, stand for the key.
 */
static PyObject **place_of(const struct source *source, PyObject *event, bool *is_known)
{
	uintptr_t hash = 0;
	PyObject **place;
	int at;

	for (at = 0; at < source->fields; at++)
		hash = hash * 31 + ((uintptr_t)*(PyObject **)((char *)event + source->field[at]) >> 4);
	place = &source->lately[((hash ^ hash >> 5 ^ hash >> 10) % LATELY) * (source->fields + 1)];
	*is_known = place[source->fields];
	for (at = 0; at < source->fields; at++)
		*is_known &= place[at] == *(PyObject **)((char *)event + source->field[at]);
	return place;
}

/* A new reference; NULL with an exception. */
static PyObject *fragments_of(const struct source *source, PyObject *event)
{
	bool is_known;
	PyObject **place = place_of(source, event, &is_known), *key, *fragments;
	int at;

	if (is_known)
		return Py_NewRef(place[source->fields]);
	key = key_of(source, event);
	fragments = key ? found(source->find, key) : NULL;
	if (fragments) {
		Py_CLEAR(place[source->fields]);
		for (at = 0; at < source->fields; at++)
			Py_XSETREF(place[at], Py_NewRef(source->is_tuple ? PyTuple_GET_ITEM(key, at) : key));
		place[source->fields] = Py_NewRef(fragments);
	}
	Py_XDECREF(key);
	return fragments;
}

static int put_fragment(struct output *out, PyObject *fragments, long long number)
{
	if (number < 0)
		return put_bytes(out, fragments);
	if (!PyTuple_Check(fragments) || number >= PyTuple_GET_SIZE(fragments)) {
		PyErr_SetString(PyExc_TypeError, "a source has fewer fragments");
		return -1;
	}
	return put_bytes(out, PyTuple_GET_ITEM(fragments, number));
}

static int put_field(struct output *out, struct step *step, PyObject *value)
{
	switch (step->operation) {
	case DECIMAL:
	case HEXADECIMAL:
		return put_number(out, value, step->operation == HEXADECIMAL);
	case MAPPED:
		return put_made(out, found(step->function, value));
	case ARGUMENTS:
	case ARGUMENT_LIST:
	case ARGUMENT_COUNT:
	case COMMAND_LINE:
		return put_arguments(out, step, value);
	case TEXT:
		return put_text(out, step, value);
	case MILLISECONDS:
		return put_time(out, step, value);
	case TIME:
	case UNLESS_ZERO:
		if (step->is_optional || step->operation == UNLESS_ZERO) {
			int is_true = PyObject_IsTrue(value);

			if (is_true <= 0)
				return is_true;
		}
		if (step->operation == TIME)
			return put_time(out, step, value);
		return put_made(out, PyObject_CallOneArg(step->function, value));
	default:
		Py_UNREACHABLE();
	}
}

static int put_value(struct output *out, struct step *step, PyObject *event, PyObject *const *fragments)
{
	PyObject *value;
	int error;

	switch (step->operation) {
	case NOTHING:
		return 0;
	case FRAGMENT:
		return put_fragment(out, fragments[step->field], step->number);
	case CALL:
		return put_made(out, PyObject_CallOneArg(step->function, event));
	default:
		value = get_slot(event, step->field);
		if (!value)
			return -1;
		error = put_field(out, step, value);
		Py_DECREF(value);
		return error;
	}
}

/* Objects that are open: where their text begins, and their members. */
struct nesting {
	Py_ssize_t before[MAX_DEPTH], inside[MAX_DEPTH];
	int depth;
};

static int put_step(struct output *out, struct step *step, struct nesting *nesting, PyObject *event,
		    PyObject *const *fragments)
{
	Py_ssize_t before = out->length, inside;

	if (step->operation == CLOSE) {
		inside = nesting->inside[--nesting->depth];
		if (out->length == inside) {
			out->length = nesting->before[nesting->depth];
			return 0;
		}
		/* The comma before the first member. */
		out->start[inside] = '{';
		return put(out, "}", 1);
	}
	if (put_bytes(out, step->text))
		return -1;
	inside = out->length;
	if (step->operation == OPEN) {
		nesting->before[nesting->depth] = before;
		nesting->inside[nesting->depth++] = inside;
		return 0;
	}
	if (put_value(out, step, event, fragments))
		return -1;
	if (step->is_optional && out->length == inside)
		out->length = before;
	return 0;
}

static int put_line(struct output *out, struct writer *self, PyObject *event)
{
	PyObject *fragments[MAX_SOURCES];
	struct nesting nesting = { .depth = 0 };
	Py_ssize_t at, sources;
	int error = -1;

	for (sources = 0; sources < self->sources; sources++) {
		fragments[sources] = fragments_of(&self->source[sources], event);
		if (!fragments[sources])
			goto out;
	}
	for (at = 0; at < self->steps; at++)
		if (put_step(out, &self->step[at], &nesting, event, fragments))
			goto out;
	error = put(out, "\n", 1);
out:
	while (sources--)
		Py_DECREF(fragments[sources]);
	return error;
}

static PyTypeObject *writer_type(PyObject *module)
{
	return *(PyTypeObject **)PyModule_GetState(module);
}

static PyObject *encode(PyObject *module, PyObject *args)
{
	PyObject *events, *writers, *writer = NULL;
	struct output out = { NULL };
	Py_ssize_t at;

	if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &events, &PyDict_Type, &writers))
		return NULL;
	out.bytes = PyBytes_FromStringAndSize(NULL, 0);
	if (out.bytes)
		(void)resize(&out, PyList_GET_SIZE(events) * LINE_GUESS);
	for (at = 0; out.bytes && at < PyList_GET_SIZE(events); at++) {
		PyObject *event = Py_NewRef(PyList_GET_ITEM(events, at));
		int error = 0;

		if (!writer || ((struct writer *)writer)->event != Py_TYPE(event)) {
			Py_XSETREF(writer, found(writers, (PyObject *)Py_TYPE(event)));
			if (writer && (!Py_IS_TYPE(writer, writer_type(module)) ||
				       ((struct writer *)writer)->event != Py_TYPE(event)))
				PyErr_SetString(PyExc_TypeError, "another class's writer");
			error = PyErr_Occurred() ? -1 : 0;
		}
		if (!error)
			error = put_line(&out, (struct writer *)writer, event);
		Py_DECREF(event);
		if (error)
			Py_CLEAR(out.bytes);
	}
	Py_XDECREF(writer);
	if (out.bytes)
		_PyBytes_Resize(&out.bytes, out.length);
	return out.bytes;
}

/* From (field or tuple of fields, find) */
static int read_source(struct writer *self, PyObject *told)
{
	struct source *source = &self->source[self->sources];
	PyObject *fields, *find;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(told, "OO", &fields, &find))
		return -1;
	source->find = Py_NewRef(find);
	self->sources++;
	source->is_tuple = PyTuple_Check(fields);
	source->fields = source->is_tuple ? PyTuple_GET_SIZE(fields) : 1;
	if (source->fields > MAX_KEYS) {
		PyErr_SetString(PyExc_ValueError, "a source has too many fields");
		return -1;
	}
	for (at = 0; at < source->fields; at++) {
		source->field[at] = slot_of(self->event, source->is_tuple ? PyTuple_GET_ITEM(fields, at) : fields);
		if (source->field[at] < 0)
			return -1;
	}
	source->lately = PyMem_Calloc(LATELY * (source->fields + 1), sizeof(*source->lately));
	if (!source->lately)
		PyErr_NoMemory();
	return source->lately ? 0 : -1;
}

/* From (text, operation, field or number of the source, function, number, is optional); gives the change of depth. */
static int read_step(struct writer *self, PyObject *told, int depth)
{
	struct step *step = &self->step[self->steps];
	PyObject *text, *field, *function;
	int operation, is_optional;

	if (!PyArg_ParseTuple(told, "SiOOLp", &text, &operation, &field, &function, &step->number, &is_optional))
		return -1;
	step->text = Py_NewRef(text);
	step->function = Py_NewRef(function);
	self->steps++;
	step->operation = operation;
	step->is_optional = is_optional;
	step->second = -1;
	if (operation < 0 || operation >= OPERATIONS)
		goto wrong;
	switch (step->operation) {
	case OPEN:
		return depth < MAX_DEPTH ? depth + 1 : -2;
	case CLOSE:
		return depth > 0 ? depth - 1 : -2;
	case NOTHING:
	case CALL:
		break;
	case FRAGMENT:
		step->field = PyLong_AsSsize_t(field);
		if (step->field < 0 || step->field >= self->sources)
			goto wrong;
		break;
	default:
		step->field = slot_of(self->event, field);
		if (step->field < 0)
			return -1;
	}
	return depth;
wrong:
	return -2;
}

static int writer_init(PyObject *object, PyObject *args, PyObject *Py_UNUSED(keywords))
{
	struct writer *self = (struct writer *)object;
	PyObject *event, *sources, *steps;
	Py_ssize_t at;
	int depth = 0;

	if (!PyArg_ParseTuple(args, "O!O!O!", &PyType_Type, &event, &PyTuple_Type, &sources, &PyTuple_Type, &steps))
		return -1;
	if (self->step || PyTuple_GET_SIZE(sources) > MAX_SOURCES) {
		PyErr_SetString(PyExc_ValueError, "a writer is made once, of few sources");
		return -1;
	}
	self->event = (PyTypeObject *)Py_NewRef(event);
	self->step = PyMem_Calloc(PyTuple_GET_SIZE(steps) + 1, sizeof(*self->step));
	if (!self->step) {
		PyErr_NoMemory();
		return -1;
	}
	for (at = 0; at < PyTuple_GET_SIZE(sources); at++)
		if (read_source(self, PyTuple_GET_ITEM(sources, at)))
			return -1;
	for (at = 0; at < PyTuple_GET_SIZE(steps) && depth >= 0; at++)
		depth = read_step(self, PyTuple_GET_ITEM(steps, at), depth);
	if (depth && !PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "these steps cannot be taken");
	return depth ? -1 : 0;
}

static void writer_dealloc(PyObject *object)
{
	struct writer *self = (struct writer *)object;
	PyTypeObject *type = Py_TYPE(object);
	Py_ssize_t at, place;

	for (at = 0; at < self->steps; at++) {
		Py_DECREF(self->step[at].text);
		Py_DECREF(self->step[at].function);
	}
	PyMem_Free(self->step);
	for (at = 0; at < self->sources; at++) {
		struct source *source = &self->source[at];

		for (place = 0; source->lately && place < LATELY * (source->fields + 1); place++)
			Py_XDECREF(source->lately[place]);
		PyMem_Free(source->lately);
		Py_DECREF(source->find);
	}
	Py_XDECREF(self->event);
	type->tp_free(object);
	Py_DECREF(type);
}

static PyType_Slot writer_slots[] = {
	{ Py_tp_new, PyType_GenericNew },
	{ Py_tp_init, writer_init },
	{ Py_tp_dealloc, writer_dealloc },
	{ 0 },
};

static PyType_Spec writer_spec = {
	.name = "pipeline.encode.native.Writer",
	.basicsize = sizeof(struct writer),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = writer_slots,
};

static int native_exec(PyObject *module)
{
	PyTypeObject **type = PyModule_GetState(module);

	*type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &writer_spec, NULL);
	return *type ? PyModule_AddType(module, *type) : -1;
}

static void native_free(void *module)
{
	PyTypeObject **type = PyModule_GetState(module);

	if (type)
		Py_CLEAR(*type);
}

static PyMethodDef native_methods[] = {
	{ "encode", encode, METH_VARARGS, NULL },
	{ NULL },
};

static PyModuleDef_Slot native_slots[] = {
	{ Py_mod_exec, native_exec },
	{ 0 },
};

static struct PyModuleDef native_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "native",
	.m_size = sizeof(PyTypeObject *),
	.m_methods = native_methods,
	.m_slots = native_slots,
	.m_free = native_free,
};

PyMODINIT_FUNC PyInit_native(void)
{
	return PyModuleDef_Init(&native_module);
}
