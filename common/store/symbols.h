/* Whole numbers as a byte for their size and bits for the rest, so that the bytes can be entropy-coded and the
 * bits, which are random, are not. */
#ifndef KF_STORE_SYMBOLS_H
#define KF_STORE_SYMBOLS_H

#include "common/base/mem.h"

/* Bits, least significant first. */
typedef struct { kf_buf *out; uint64_t word; unsigned n; } kf_bit_writer;

static inline void kf_bits_put(kf_bit_writer *w, uint32_t v, unsigned n)
{
	w->word |= (uint64_t)v << w->n;
	w->n += n;
	if (w->n >= 32) {
		kf_buf_u32(w->out, (uint32_t)w->word);
		w->word >>= 32;
		w->n -= 32;
	}
}

static inline void kf_bits_end(kf_bit_writer *w)
{
	while (w->n) {
		kf_buf_u8(w->out, (uint8_t)w->word);
		w->word >>= 8;
		w->n = w->n > 8 ? w->n - 8 : 0;
	}
}

/* Reads past the end give zeros and are found by kf_bits_over. The plane has 8 readable bytes past its end. */
typedef struct { const uint8_t *p; uint64_t at, end; } kf_bit_reader;

static inline kf_bit_reader kf_bits_from(const kf_buf *b)
{
	kf_bit_reader r = { b->data, 0, (uint64_t)b->len * 8 };

	return r;
}

static inline uint32_t kf_bits_get(kf_bit_reader *r, unsigned n)
{
	uint64_t w;

	if (r->at >= r->end) {
		r->at += n;
		return 0;
	}
	memcpy(&w, r->p + r->at / 8, 8);
	w >>= r->at & 7;
	r->at += n;
	return (uint32_t)(w & ((1ull << n) - 1));
}

static inline bool kf_bits_over(const kf_bit_reader *r) { return r->at > r->end; }

/* v < 2^29: below 16 itself; then 8 symbols an octave, and the bits below its top four. At most 215. */
static inline uint8_t kf_sym_put(kf_bit_writer *w, uint32_t v)
{
	unsigned e;

	if (v < 16) return (uint8_t)v;
	e = 31 - (unsigned)__builtin_clz(v);
	kf_bits_put(w, v & ((1u << (e - 3)) - 1), e - 3);
	return (uint8_t)(16 + (e - 4) * 8 + (v >> (e - 3) & 7));
}

#define KF_SYM_MAX 215

static inline uint32_t kf_sym_get(kf_bit_reader *r, uint8_t sym)
{
	unsigned bits;

	if (sym > KF_SYM_MAX) sym = KF_SYM_MAX; /* from damaged bytes only */
	/* as if the first octave, too, had a bit for each of its symbols: no branch that goes either way */
	bits = sym < 16 ? 0 : (sym - 8u) / 8;
	return (sym < 16 ? sym : 8u + (sym & 7)) << bits | kf_bits_get(r, bits);
}

#endif
