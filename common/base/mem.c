#include "common/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- blocks ---- */

void *kf_alloc(size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
	bytes = (bytes + KF_ALIGN - 1) / KF_ALIGN * KF_ALIGN;
	return aligned_alloc(KF_ALIGN, bytes ? bytes : KF_ALIGN);
}

void *kf_zalloc(size_t n, size_t size)
{
	void *p = kf_alloc(n, size);

	if (p) memset(p, 0, n * size);
	return p;
}

void kf_free(void *p)
{
	free(p);
}

char *kf_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = kf_alloc(n, 1);

	if (p) memcpy(p, s, n);
	return p;
}

/* ---- arena: a chain of blocks, newest first ---- */

struct kf_arena_block {
	struct kf_arena_block *next;
	size_t size, used; /* bytes of data that follow the header */
};

#define HEADER KF_ALIGN /* data starts aligned */
#define FIRST_BLOCK ((size_t)64 << 10)

void kf_arena_init(kf_arena *a)
{
	memset(a, 0, sizeof *a);
}

static struct kf_arena_block *block_new(size_t size)
{
	struct kf_arena_block *b = kf_alloc(size + HEADER, 1);

	if (b) {
		b->next = NULL;
		b->size = size;
		b->used = 0;
	}
	return b;
}

void *kf_arena_alloc(kf_arena *a, size_t n, size_t size)
{
	size_t bytes;
	struct kf_arena_block *b = a->head;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 4) return NULL;
	bytes = (bytes + KF_ALIGN - 1) / KF_ALIGN * KF_ALIGN;
	if (!b || b->size - b->used < bytes) {
		size_t want = b ? b->size * 2 : FIRST_BLOCK;

		if (want > (size_t)64 << 20) want = (size_t)64 << 20;
		if (want < bytes) want = bytes;
		if (!(b = block_new(want))) return NULL;
		b->next = a->head;
		a->head = b;
	}
	p = (char *)b + HEADER + b->used;
	b->used += bytes;
	a->used += bytes;
	if (a->used > a->peak) a->peak = a->used;
	return p;
}

char *kf_arena_strdup(kf_arena *a, const char *s, size_t n)
{
	char *p = n < SIZE_MAX ? kf_arena_alloc(a, n + 1, 1) : NULL;

	if (p) {
		if (n) memcpy(p, s, n);
		p[n] = 0;
	}
	return p;
}

static void free_chain(struct kf_arena_block *b)
{
	while (b) {
		struct kf_arena_block *next = b->next;

		kf_free(b);
		b = next;
	}
}

/* Keeps the largest block, which is the newest but for an oversized one-off. */
void kf_arena_reset(kf_arena *a)
{
	struct kf_arena_block *b = a->head;

	if (b) {
		free_chain(b->next);
		b->next = NULL;
		b->used = 0;
	}
	a->used = 0;
}

void kf_arena_release(kf_arena *a)
{
	free_chain(a->head);
	memset(a, 0, sizeof *a);
}

/* ---- growing bytes ---- */

void kf_buf_release(kf_buf *b)
{
	kf_free(b->data);
	memset(b, 0, sizeof *b);
}

bool kf_buf_reserve(kf_buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (b->failed) return false;
	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 4) goto fail;
	if (need <= b->cap) return true;
	cap = b->cap ? b->cap * 2 : 256;
	if (cap < need) cap = need;
	if (!(data = kf_alloc(cap, 1))) goto fail;
	if (b->len) memcpy(data, b->data, b->len);
	kf_free(b->data);
	b->data = data;
	b->cap = cap;
	return true;
fail:
	b->failed = true;
	return false;
}

uint32_t *kf_buf_words(kf_buf *b, size_t n)
{
	uint32_t *p;

	if (!kf_buf_reserve(b, n * 4 + 4)) return NULL; /* 4: data is never NULL */
	p = (uint32_t *)(b->data + b->len);
	b->len += n * 4;
	return p;
}

void kf_buf_put(kf_buf *b, const void *p, size_t n)
{
	if (!n || !kf_buf_reserve(b, n)) return;
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void kf_buf_printf(kf_buf *b, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n > 0) kf_buf_put(b, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void kf_buf_fill(kf_buf *b, uint8_t byte, size_t n)
{
	if (!n || !kf_buf_reserve(b, n)) return;
	memset(b->data + b->len, byte, n);
	b->len += n;
}

void kf_buf_u8(kf_buf *b, uint8_t v)
{
	kf_buf_put(b, &v, 1);
}

static void put_le(kf_buf *b, uint64_t v, int bytes)
{
	uint8_t raw[8];

	for (int i = 0; i < bytes; i++) raw[i] = (uint8_t)(v >> (8 * i));
	kf_buf_put(b, raw, (size_t)bytes);
}

void kf_buf_u16(kf_buf *b, uint16_t v) { put_le(b, v, 2); }
void kf_buf_u32(kf_buf *b, uint32_t v) { put_le(b, v, 4); }
void kf_buf_u64(kf_buf *b, uint64_t v) { put_le(b, v, 8); }

void kf_buf_f32(kf_buf *b, float v)
{
	uint32_t u;

	memcpy(&u, &v, 4);
	put_le(b, u, 4);
}

void kf_buf_varint(kf_buf *b, uint64_t v)
{
	uint8_t raw[10];
	size_t n = 0;

	do {
		raw[n] = (uint8_t)(v & 127);
		v >>= 7;
		if (v) raw[n] |= 128;
		n++;
	} while (v);
	kf_buf_put(b, raw, n);
}

void kf_buf_str(kf_buf *b, const char *s)
{
	size_t n = strlen(s);

	kf_buf_varint(b, n);
	kf_buf_put(b, s, n);
}

kf_status kf_buf_check(const kf_buf *b, kf_err *err)
{
	return b->failed ? kf_fail(err, KF_ENOMEM, "out of memory for a buffer past %zu bytes", b->len) : KF_OK;
}

/* ---- cursors ---- */

const uint8_t *kf_cur_bytes(kf_cur *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || n > kf_cur_left(c)) {
		c->bad = true;
		c->p = c->end;
		return NULL;
	}
	c->p += n;
	return p;
}

static uint64_t get_le(kf_cur *c, int bytes)
{
	const uint8_t *p = kf_cur_bytes(c, (size_t)bytes);
	uint64_t v = 0;

	if (p)
		for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t kf_cur_u8(kf_cur *c) { return (uint8_t)get_le(c, 1); }
uint16_t kf_cur_u16(kf_cur *c) { return (uint16_t)get_le(c, 2); }
uint32_t kf_cur_u32(kf_cur *c) { return (uint32_t)get_le(c, 4); }
uint64_t kf_cur_u64(kf_cur *c) { return get_le(c, 8); }

float kf_cur_f32(kf_cur *c)
{
	uint32_t u = kf_cur_u32(c);
	float v;

	memcpy(&v, &u, 4);
	return v;
}

uint64_t kf_cur_varint(kf_cur *c)
{
	uint64_t v = 0;

	for (int shift = 0; shift < 64; shift += 7) {
		const uint8_t *p = kf_cur_bytes(c, 1);

		if (!p) return 0;
		if (shift == 63 && *p > 1) break; /* more than 64 bits */
		v |= (uint64_t)(*p & 127) << shift;
		if (!(*p & 128)) return v;
	}
	c->bad = true;
	c->p = c->end;
	return 0;
}

const char *kf_cur_str(kf_cur *c, size_t *n)
{
	uint64_t len = kf_cur_varint(c);
	const char *s;

	if (len > kf_cur_left(c)) {
		c->bad = true;
		c->p = c->end;
		len = 0;
	}
	s = (const char *)kf_cur_bytes(c, (size_t)len);
	*n = s ? (size_t)len : 0;
	return s ? s : "";
}
