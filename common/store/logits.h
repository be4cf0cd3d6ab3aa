/* Logits records as a block holds them, between the API (record_logits.c) and the bytes
 * (logits_write.c and logits_read.c, logits_f32.c): the arrays of all its documents, one after another. */
#ifndef KF_STORE_LOGITS_H
#define KF_STORE_LOGITS_H

#include "common/store/store.h"

typedef struct {
	uint32_t k;
	bool bos, path;
	bool tokens_only;       /* only n, tok and start are decoded */
	uint32_t docs;
	const uint32_t *n;      /* (docs) tokens of each */
	size_t tokens, positions; /* sum of n; tokens + docs */
	int32_t *tok;           /* (tokens) */
	uint32_t *start;        /* (positions) n + 1 a document */
	/* Numbers are as quant.h stores them: packed or bits of a float; -ln p, so never negative when packed. Absent
	 * positions have ids -1, and ce, lp and masses that say so (KF_Q_NAN, KF_Q_INF, KF_Q_NAN). */
	uint32_t *ce;           /* (tokens) */
	int32_t *ids;           /* (positions, k) */
	uint8_t *context;       /* (positions) of conversations; NULL: text */
	uint32_t *lp;           /* (positions, k) */
	/* With path only. A token's masses are as many as it has interior bytes. */
	size_t n_path, n_extra;
	uint32_t *nlm;          /* (n_path) */
	uint32_t *n_ex;         /* (positions) extra candidates of each */
	int32_t *ex_ids;        /* (n_extra) */
	uint32_t *ex_lp;        /* (n_extra) */
} kf_logits_block;

/* Append the block's planes to out, after the flags and k that record_logits.c puts there (and reads). Fill b from planes: docs, n,
 * tokens and positions are what the heads plane (first) says; everything else is made in the arena. */
kf_status kf_logits_f32_encode(kf_packer *p, kf_buf *planes, const kf_logits_block *b, kf_buf *out, kf_err *err) KF_MUST_CHECK;
kf_status kf_logits_f32_decode(kf_buf *planes, kf_arena *arena, kf_logits_block *b, kf_err *err) KF_MUST_CHECK;
/* What the packed codec remembers along a block; *t is made when NULL and kept for the next. */
typedef struct kf_logits_tables kf_logits_tables;
void kf_logits_tables_free(kf_logits_tables *t);
kf_status kf_logits_packed_encode(kf_packer *p, kf_logits_tables **t, kf_buf *planes, const kf_logits_block *b, kf_buf *out,
	kf_err *err) KF_MUST_CHECK;
kf_status kf_logits_packed_decode(kf_logits_tables **t, kf_buf *planes, kf_arena *arena, kf_logits_block *b, kf_err *err)
	KF_MUST_CHECK;

/* Whether position p of a block, number i of its document, has no distribution. */
static inline bool kf_logits_absent(const kf_logits_block *b, size_t p, uint32_t i)
{
	return (i == 0 && !b->bos) || (b->context && b->context[p]);
}

/* Interior bytes of a token: path masses it has. */
static inline uint32_t kf_interior(uint32_t start, uint32_t end)
{
	return end > start ? end - start - 1 : 0;
}

/* Allocate b's arrays for its tokens, positions and k (tokens_only: of the first two); the path's are made once n_path and n_extra are known. */
kf_status kf_logits_block_alloc(kf_logits_block *b, kf_arena *arena, kf_err *err) KF_MUST_CHECK;
/* Sum of interior bytes; KF_EDATA when starts descend. */
kf_status kf_logits_count_path(const kf_logits_block *b, size_t *n, kf_err *err) KF_MUST_CHECK;

/* The planes that tokens_only needs. */
#define KF_LOGITS_F32_TOKEN_PLANES 7u
uint64_t kf_logits_packed_token_planes(void);

/* One more with context: the last, which record_logits.c writes and reads. */
#define KF_LOGITS_F32_PLANES 10
#define KF_LOGITS_PACKED_PLANES 63
extern const char *const kf_logits_f32_planes[], *const kf_logits_packed_planes[];

#endif
