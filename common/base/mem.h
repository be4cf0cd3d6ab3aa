/* Memory: checked allocation, arenas, growing byte buffers, bounds-checked cursors. */
#ifndef KF_BASE_MEM_H
#define KF_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/status.h"

#define KF_ALIGN 64 /* of every arena and kf_alloc block, bytes: one cache line, one AVX-512 vector */

/* n * size bytes, KF_ALIGN-aligned, not cleared; NULL when it overflows or there
 * is no memory. n = 0 gives a block that can be freed. Free with kf_free. */
void *kf_alloc(size_t n, size_t size);
void *kf_zalloc(size_t n, size_t size);   /* the same, cleared */
void kf_free(void *p);                    /* accepts NULL */
char *kf_strdup(const char *s);           /* NULL on no memory; free with kf_free */

/* Arena: blocks that live until the next reset. A stage resets one between
 * batches. Not thread-safe: one arena a thread. */
typedef struct kf_arena {
	struct kf_arena_block *head;
	size_t used, peak; /* bytes handed out now, and at most since init */
} kf_arena;

void kf_arena_init(kf_arena *a);
void kf_arena_reset(kf_arena *a);   /* frees nothing but what a smaller block chain would: keeps one block */
void kf_arena_release(kf_arena *a);
void *kf_arena_alloc(kf_arena *a, size_t n, size_t size); /* NULL: overflow or no memory; not cleared */
char *kf_arena_strdup(kf_arena *a, const char *s, size_t n); /* n bytes and a NUL */
#define KF_ARENA_NEW(a, T, n) ((T *)kf_arena_alloc((a), (n), sizeof(T)))

/* Growing bytes. Zero-initialise; release when done. On no memory a put sets
 * failed and later puts do nothing, so that a caller checks once at the end. */
typedef struct {
	uint8_t *data;
	size_t len, cap;
	bool failed;
} kf_buf;

void kf_buf_release(kf_buf *b);
static inline void kf_buf_clear(kf_buf *b) { b->len = 0; b->failed = false; }
bool kf_buf_reserve(kf_buf *b, size_t more);  /* room for `more` bytes past len */
uint32_t *kf_buf_words(kf_buf *b, size_t n);  /* n more words of 32 bits, for the caller to write; never NULL when there is memory, even of none */
void kf_buf_put(kf_buf *b, const void *p, size_t n);
void kf_buf_printf(kf_buf *b, const char *fmt, ...) KF_PRINTF(2, 3); /* at most 1,023 bytes a call */
void kf_buf_fill(kf_buf *b, uint8_t byte, size_t n);
/* Little-endian fixed-width and LEB128 variable-length integers. */
void kf_buf_u8(kf_buf *b, uint8_t v);
void kf_buf_u16(kf_buf *b, uint16_t v);
void kf_buf_u32(kf_buf *b, uint32_t v);
void kf_buf_u64(kf_buf *b, uint64_t v);
void kf_buf_f32(kf_buf *b, float v);
void kf_buf_varint(kf_buf *b, uint64_t v);
void kf_buf_str(kf_buf *b, const char *s);   /* varint length, bytes */
kf_status kf_buf_check(const kf_buf *b, kf_err *err) KF_MUST_CHECK; /* KF_ENOMEM when failed */

/* A cursor over bytes that may lie. Reading past the end sets bad, returns 0 or
 * NULL and stays at the end; check bad once after a group of reads. */
typedef struct {
	const uint8_t *p, *end;
	bool bad;
} kf_cur;

static inline kf_cur kf_cur_of(const void *p, size_t n)
{
	kf_cur c = { (const uint8_t *)p, (const uint8_t *)p + n, false };
	return c;
}
static inline size_t kf_cur_left(const kf_cur *c) { return (size_t)(c->end - c->p); }
const uint8_t *kf_cur_bytes(kf_cur *c, size_t n); /* borrowed from the underlying bytes */
uint8_t kf_cur_u8(kf_cur *c);
uint16_t kf_cur_u16(kf_cur *c);
uint32_t kf_cur_u32(kf_cur *c);
uint64_t kf_cur_u64(kf_cur *c);
float kf_cur_f32(kf_cur *c);
uint64_t kf_cur_varint(kf_cur *c);
/* varint length and bytes; *n gets the length; borrowed, not terminated */
const char *kf_cur_str(kf_cur *c, size_t *n);

#endif
