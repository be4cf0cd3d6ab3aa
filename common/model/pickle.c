#include "common/model/pickle.h"

#include <string.h>

enum { MAX_TENSORS = 1000000 };

typedef enum { NONE, FLAG, INTEGER, TEXT, NAME, TUPLE, DICT, STORAGE, TENSOR } kind;

/* The names a pickle may use, and what they stand for. */
enum { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, FIRST_STORAGE };

static const struct { const char *module, *name, *dtype; } names[] = {
	{ "collections", "OrderedDict", NULL }, { "torch._utils", "_rebuild_tensor_v2", NULL },
	{ "torch._utils", "_rebuild_parameter", NULL }, { "torch", "FloatStorage", "F32" }, { "torch", "HalfStorage", "F16" },
	{ "torch", "BFloat16Storage", "BF16" }, { "torch", "DoubleStorage", "F64" }, { "torch", "LongStorage", "I64" },
	{ "torch", "IntStorage", "I32" }, { "torch", "ShortStorage", "I16" }, { "torch", "CharStorage", "I8" },
	{ "torch", "ByteStorage", "U8" }, { "torch", "BoolStorage", "BOOL" },
};
#define N_NAMES (sizeof names / sizeof *names)

typedef struct value value;
struct value {
	kind kind;
	int64_t i;                 /* FLAG, INTEGER, NAME; elements of a STORAGE */
	kf_pickle_str s;           /* TEXT; a STORAGE's file */
	const char *dtype;         /* STORAGE */
	value **item;              /* (n) of a TUPLE; of a DICT keys and values in turn */
	size_t n, cap;
	kf_pickle_tensor *tensor;
};

typedef struct {
	kf_cur c;
	const uint8_t *start;
	const char *file;
	kf_arena *arena;
	kf_err *err;
	value **stack, **memo;     /* stack: NULL is a mark; memo (size) */
	size_t n, cap, memo_cap, stored;
} machine;

static size_t place(const machine *m) { return (size_t)(m->c.p - m->start); }

static kf_status damaged(const machine *m, const char *what)
{
	return kf_fail(m->err, KF_EDATA, "%s: %s at byte %zu of its pickle; the file is damaged", m->file, what, place(m));
}

static kf_status no_memory(const machine *m)
{
	return kf_fail(m->err, KF_ENOMEM, "%s: no memory for its pickle", m->file);
}

/* Room for index i of an array of values that lives in the arena; new places are NULL. */
static bool reserve(const machine *m, value ***list, size_t *cap, size_t i)
{
	size_t want = *cap ? *cap : 64;
	value **grown;

	if (i < *cap) return true;
	while (want <= i) want *= 2;
	if (!(grown = KF_ARENA_NEW(m->arena, value *, want))) return false;
	if (*cap) memcpy(grown, *list, *cap * sizeof *grown);
	memset(grown + *cap, 0, (want - *cap) * sizeof *grown);
	*list = grown;
	*cap = want;
	return true;
}

static kf_status push(machine *m, value *v)
{
	if (!reserve(m, &m->stack, &m->cap, m->n)) return no_memory(m);
	m->stack[m->n++] = v;
	return KF_OK;
}

static kf_status push_new(machine *m, value from)
{
	value *v = KF_ARENA_NEW(m->arena, value, 1);

	if (!v) return no_memory(m);
	*v = from;
	return push(m, v);
}

/* The topmost value, taken off; NULL: there is none, or a mark. */
static value *pop(machine *m) { return m->n && m->stack[m->n - 1] ? m->stack[--m->n] : NULL; }

/* The place above the last mark; false: there is none. */
static bool mark_of(const machine *m, size_t *at)
{
	for (*at = m->n; *at > 0; --*at)
		if (!m->stack[*at - 1]) return true;
	return false;
}

static kf_status make_tuple(machine *m, size_t from, bool marked)
{
	value v = { .kind = TUPLE, .n = m->n - from };

	if (!(v.item = KF_ARENA_NEW(m->arena, value *, v.n))) return no_memory(m);
	for (size_t i = 0; i < v.n; i++)
		if (!(v.item[i] = m->stack[from + i])) return damaged(m, "a mark inside a tuple");
	m->n = from - marked;
	return push_new(m, v);
}

/* Keys and values above `from` into the dictionary below it (and below the mark, if any). */
static kf_status set_items(machine *m, size_t from, bool marked)
{
	size_t count = m->n - from, at = from - marked;
	value *d = at ? m->stack[at - 1] : NULL;

	if (!d || d->kind != DICT || count % 2) return damaged(m, "items that belong to no dictionary");
	for (size_t i = 0; i < count; i++) {
		if (!m->stack[from + i]) return damaged(m, "a mark among items");
		if (!reserve(m, &d->item, &d->cap, d->n)) return no_memory(m);
		d->item[d->n++] = m->stack[from + i];
	}
	m->n = at;
	return KF_OK;
}

/* ---- what names stand for ---- */

static bool text_is(kf_pickle_str s, const char *t) { return s.len == strlen(t) && !memcmp(s.s, t, s.len); }

static kf_status push_name(machine *m, kf_pickle_str module, kf_pickle_str name)
{
	for (size_t i = 0; i < N_NAMES; i++)
		if (text_is(module, names[i].module) && text_is(name, names[i].name))
			return push_new(m, (value){ .kind = NAME, .i = (int64_t)i });
	return kf_fail(m->err, KF_EUNSUPPORTED,
		"%s: its pickle asks for %.*s.%.*s, which a dictionary of tensors has no use for; nothing of it was executed", m->file,
		(int)(module.len < 80 ? module.len : 80), module.s, (int)(name.len < 80 ? name.len : 80), name.s);
}

/* ("storage", type, file, device, elements) */
static kf_status push_storage(machine *m, const value *t)
{
	const value *const *v = t && t->kind == TUPLE ? (const value *const *)t->item : NULL;

	if (!v || t->n != 5 || v[0]->kind != TEXT || !text_is(v[0]->s, "storage") || v[1]->kind != NAME ||
		v[1]->i < FIRST_STORAGE || v[2]->kind != TEXT || v[4]->kind != INTEGER || v[4]->i < 0)
		return damaged(m, "a reference that is no storage");
	return push_new(m, (value){ .kind = STORAGE, .dtype = names[v[1]->i].dtype, .s = v[2]->s, .i = v[4]->i });
}

/* (storage, offset, size, stride, requires_grad, hooks ...) */
static kf_status push_tensor(machine *m, const value *t)
{
	const value *const *v = (const value *const *)t->item;
	kf_pickle_tensor *x;
	uint64_t elements = 1, step = 1;

	if (t->n < 4 || v[0]->kind != STORAGE || v[1]->kind != INTEGER || v[1]->i < 0 || v[2]->kind != TUPLE ||
		v[3]->kind != TUPLE || v[2]->n != v[3]->n)
		return damaged(m, "a tensor without storage, offset, size and stride");
	if (v[2]->n > KF_PICKLE_DIMS)
		return kf_fail(m->err, KF_EUNSUPPORTED, "%s: a tensor of %zu dimensions is not supported", m->file, v[2]->n);
	if (!(x = KF_ARENA_NEW(m->arena, kf_pickle_tensor, 1))) return no_memory(m);
	*x = (kf_pickle_tensor){ .storage = v[0]->s, .dtype = v[0]->dtype, .n_dims = (int)v[2]->n, .offset = (uint64_t)v[1]->i };
	for (size_t i = v[2]->n; i-- > 0;) {
		const value *size = v[2]->item[i], *stride = v[3]->item[i];

		if (size->kind != INTEGER || size->i < 0 || stride->kind != INTEGER ||
			__builtin_mul_overflow(elements, (uint64_t)size->i, &elements))
			return damaged(m, "a tensor whose shape makes no sense");
		if (size->i != 1 && (stride->i < 0 || (uint64_t)stride->i != step))
			return kf_fail(m->err, KF_EUNSUPPORTED,
				"%s: has a tensor that is not stored row after row; load it with torch and save contiguous tensors", m->file);
		x->dim[i] = (uint64_t)size->i;
		step = elements;
	}
	x->elements = elements;
	if (x->offset > (uint64_t)v[0]->i || elements > (uint64_t)v[0]->i - x->offset)
		return damaged(m, "a tensor that runs past its storage");
	return push_new(m, (value){ .kind = TENSOR, .tensor = x });
}

static kf_status reduce(machine *m)
{
	const value *args = pop(m), *f = pop(m);

	if (!args || !f || args->kind != TUPLE || f->kind != NAME) return damaged(m, "a call of what cannot be called");
	switch (f->i) {
	case ORDERED_DICT:
		return args->n ? damaged(m, "an OrderedDict made from something") : push_new(m, (value){ .kind = DICT });
	case REBUILD_TENSOR: return push_tensor(m, args);
	case REBUILD_PARAMETER:
		if (args->n < 1 || args->item[0]->kind != TENSOR) return damaged(m, "a parameter that is no tensor");
		return push(m, args->item[0]);
	}
	return damaged(m, "a call of a type of storage");
}

/* ---- instructions ---- */

static kf_status push_text(machine *m, size_t len)
{
	const uint8_t *s = kf_cur_bytes(&m->c, len);

	return s ? push_new(m, (value){ .kind = TEXT, .s = { (const char *)s, len } }) : damaged(m, "a string runs past the end");
}

static kf_status line(machine *m, kf_pickle_str *out)
{
	size_t left = kf_cur_left(&m->c);
	const uint8_t *end = left ? memchr(m->c.p, '\n', left) : NULL;

	if (!end) return damaged(m, "a name without end");
	*out = (kf_pickle_str){ (const char *)m->c.p, (size_t)(end - m->c.p) };
	kf_cur_bytes(&m->c, out->len + 1);
	return KF_OK;
}

static kf_status store(machine *m, uint64_t at)
{
	value *top = m->n ? m->stack[m->n - 1] : NULL;

	/* places are given in order, so that no more are needed than things were stored */
	if (!top || at > m->stored) return damaged(m, "a memo of nothing, or out of range");
	m->stored++;
	if (!reserve(m, &m->memo, &m->memo_cap, (size_t)at)) return no_memory(m);
	m->memo[at] = top;
	return KF_OK;
}

static kf_status fetch(machine *m, uint64_t at)
{
	if (at >= m->memo_cap || !m->memo[at]) return damaged(m, "a memo that was never made");
	return push(m, m->memo[at]);
}

static kf_status long_number(machine *m)
{
	size_t n = kf_cur_u8(&m->c);
	const uint8_t *b = kf_cur_bytes(&m->c, n);
	uint64_t v = n && b && b[n - 1] & 0x80 ? UINT64_MAX : 0;

	if (!b || n > 8) return damaged(m, "a number that is too long");
	for (size_t i = n; i-- > 0;) v = v << 8 | b[i];
	return push_new(m, (value){ .kind = INTEGER, .i = (int64_t)v });
}

/* One instruction; *done at the last. */
static kf_status step(machine *m, bool *done)
{
	uint8_t op = kf_cur_u8(&m->c);
	kf_pickle_str a, b;
	value *v, *w;
	size_t at;
	kf_status rc;

	switch (op) {
	case 0x80:                                              /* PROTO */
		kf_cur_u8(&m->c);
		return KF_OK;
	case 0x95:                                              /* FRAME */
		kf_cur_u64(&m->c);
		return KF_OK;
	case '(': return push(m, NULL);
	case '.': *done = true; return KF_OK;
	case 'N': return push_new(m, (value){ .kind = NONE });
	case 0x88: return push_new(m, (value){ .kind = FLAG, .i = 1 });
	case 0x89: return push_new(m, (value){ .kind = FLAG });
	case 'J': return push_new(m, (value){ .kind = INTEGER, .i = (int32_t)kf_cur_u32(&m->c) });
	case 'K': return push_new(m, (value){ .kind = INTEGER, .i = kf_cur_u8(&m->c) });
	case 'M': return push_new(m, (value){ .kind = INTEGER, .i = kf_cur_u16(&m->c) });
	case 0x8a: return long_number(m);                       /* LONG1 */
	case 'X': return push_text(m, kf_cur_u32(&m->c));
	case 0x8c: return push_text(m, kf_cur_u8(&m->c));       /* SHORT_BINUNICODE */
	case ')': return push_new(m, (value){ .kind = TUPLE });
	case '}': return push_new(m, (value){ .kind = DICT });
	case 0x85:                                              /* TUPLE1, TUPLE2, TUPLE3 */
	case 0x86:
	case 0x87:
		if (m->n < (size_t)(op - 0x84)) return damaged(m, "a tuple of more than there is");
		return make_tuple(m, m->n - (size_t)(op - 0x84), false);
	case 't': return mark_of(m, &at) ? make_tuple(m, at, true) : damaged(m, "a tuple without a mark");
	case 's': return m->n >= 2 ? set_items(m, m->n - 2, false) : damaged(m, "an item that belongs to no dictionary");
	case 'u': return mark_of(m, &at) ? set_items(m, at, true) : damaged(m, "items without a mark");
	case 'q': return store(m, kf_cur_u8(&m->c));
	case 'r': return store(m, kf_cur_u32(&m->c));
	case 0x94: return store(m, m->stored);                  /* MEMOIZE */
	case 'h': return fetch(m, kf_cur_u8(&m->c));
	case 'j': return fetch(m, kf_cur_u32(&m->c));
	case 'c':
		if ((rc = line(m, &a)) != KF_OK || (rc = line(m, &b)) != KF_OK) return rc;
		return push_name(m, a, b);
	case 0x93:                                              /* STACK_GLOBAL */
		w = pop(m);
		v = pop(m);
		if (!v || !w || v->kind != TEXT || w->kind != TEXT) return damaged(m, "a name that is no text");
		return push_name(m, v->s, w->s);
	case 'Q': return push_storage(m, pop(m));
	case 'R': return reduce(m);
	case 'b':                                               /* BUILD: attributes of a dictionary, such as versions */
		v = pop(m);
		return v && m->n && m->stack[m->n - 1] && m->stack[m->n - 1]->kind == DICT ? KF_OK
			: damaged(m, "attributes of what has none");
	}
	return kf_fail(m->err, KF_EUNSUPPORTED,
		"%s: its pickle has the instruction 0x%02x at byte %zu, which a dictionary of tensors has no use for; nothing of it "
		"was executed", m->file, op, place(m) - 1);
}

kf_status kf_pickle_tensors(const uint8_t *data, size_t size, const char *name, kf_arena *arena,
	const kf_pickle_tensor **out, size_t *n, kf_err *err)
{
	machine m = { .c = kf_cur_of(data, size), .start = data, .file = name, .arena = arena, .err = err };
	kf_pickle_tensor *list;
	const value *top;
	bool done = false;
	kf_status rc;

	*n = 0;
	while (!done) {
		if ((rc = step(&m, &done)) != KF_OK) return rc;
		if (m.c.bad) return damaged(&m, "the pickle ends too early");
	}
	top = pop(&m);
	if (!top || top->kind != DICT || m.n)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: holds no dictionary of tensors", name);
	if (top->n / 2 > MAX_TENSORS) return kf_fail(err, KF_EDATA, "%s: names more than %d tensors", name, MAX_TENSORS);
	if (!(list = KF_ARENA_NEW(arena, kf_pickle_tensor, top->n / 2))) return no_memory(&m);
	for (size_t i = 0; i < top->n; i += 2) {
		const value *key = top->item[i], *v = top->item[i + 1];

		if (key->kind != TEXT || v->kind != TENSOR)
			return kf_fail(err, KF_EUNSUPPORTED, "%s: its dictionary holds more than tensors by name", name);
		list[*n] = *v->tensor;
		list[(*n)++].name = key->s;
	}
	*out = list;
	return KF_OK;
}
