/* Inside codec L (logits, packed): its planes, what tells which plane a symbol goes to, and what is remembered along a
 * block. Writer (logits_write.c) and reader (logits_read.c) go through the same phases in the same order: log-probabilities;
 * candidates, labels, lengths and extra candidates, position by position; the extra candidates' log-probabilities; ce; path
 * masses. */
#ifndef KF_STORE_LOGITS_PACKED_H
#define KF_STORE_LOGITS_PACKED_H

#include "common/store/logits.h"
#include "common/store/packed.h"

enum {
	HEADS, GAPS, CLASSES,
	LP0, LP1, LPR = LP1 + 8,           /* ranks: first; second by the first; 2, 3, 4, 5, 6-7, 8-9, 10- */
	ROWS = LPR + 7,                    /* places, by how many slots are open at first, and by the place before */
	MISS = ROWS + 20, MISS_BITS,
	LABEL,                             /* rank of the label among the candidates, by the best one's probability */
	LABEL_AT = LABEL + 4, LENGTH,
	CE = LENGTH + 1,                   /* difference to the label's candidate, by whether that is certain */
	CE_FAR = CE + 2, CE_BITS,
	OVER,                              /* varints of what does not fit elsewhere */
	PATH,                              /* differences of path masses: the last of a token; others after 0, after more */
	PATH_BITS = PATH + 3,
	EXTRAS, EXTRA_LABEL = EXTRAS + 3, EXTRA_AT, EXTRA_LP = EXTRA_AT + 1, PLANES = EXTRA_LP + 2
};
_Static_assert(PLANES == KF_LOGITS_PACKED_PLANES && PLANES < KF_MAX_PLANES, "planes");

#define LABEL_MOST 250
#define ROW_SHORT 32 /* candidates that may be read past a plane's end, where 64 bytes are readable, before that is looked at */
/* ce */
#define CE_OTHER 255
#define CE_INF 253
#define CE_NAN 254
#define CE_BELOW 252

#define X_LIST 16     /* extra candidates last seen beside a label */
#define X_TABLE 4096
#define NOWHERE 0xffffffffu

static inline int lp1_context(uint32_t q0)
{
	return q0 < 3 ? (int)q0 : q0 < 5 ? 3 : q0 < 9 ? 4 : q0 < 18 ? 5 : q0 < 36 ? 6 : 7;
}

static inline int lp_plane(uint32_t rank)
{
	return LPR + (rank < 6 ? (int)rank - 2 : rank < 8 ? 4 : rank < 10 ? 5 : 6);
}

/* The plane of a position's first place, and after place the distance from there to that of the next. */
static inline int row_planes(const kf_rows *rows)
{
	unsigned n = (unsigned)__builtin_popcountll(rows->open);

	return ROWS + 4 * (rows->known ? n >= 20 : n < 4 ? 2 : n < 20 ? 3 : 4);
}

static inline int row_after(unsigned place)
{
	return place == KF_ROW_MISS ? 1 : place < 2 ? 2 : 3;
}

static inline int label_context(uint32_t q0)
{
	return q0 < 3 ? 0 : q0 < 12 ? 1 : q0 < 30 ? 2 : 3;
}

static inline int extras_context(uint32_t interior, bool label_in)
{
	return interior == 0 ? 0 : label_in ? 1 : 2;
}

typedef struct { uint32_t n, id[X_LIST]; } x_list;

struct kf_logits_tables {
	kf_token_memory memory;
	x_list *x;             /* (X_TABLE) */
};

/* Made for the first block, emptied for every other. */
kf_status kf_logits_tables_reset(kf_logits_tables **tables, kf_err *err) KF_MUST_CHECK;
/* A label's extra candidates were these n: they go in front. */
void kf_logits_extras_seen(x_list *x, const uint32_t *ids, uint32_t n);

#endif
