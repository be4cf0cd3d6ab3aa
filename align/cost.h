/* Inside align/: what pairing the tokens of one document costs: edit distances, computed once for each pair
 * of ids. */
#ifndef KF_ALIGN_COST_H
#define KF_ALIGN_COST_H

#include "align/spell.h"

/* The document's different tokens numbered, and a table of their costs, filled as it is asked. The table has
 * a row for a different token of a; a document too large to have room for all lets rows push each other out. */
typedef struct align_costs align_costs;

/* a (n), b (m): ids within x's vocabularies, n, m > 0; borrowed. In arena; NULL on no memory. */
align_costs *align_costs_init(const align_lexicon *x, const int32_t *a, uint32_t n, const int32_t *b,
	uint32_t m, kf_arena *arena);

/* cost[j] for j in [lo, hi]: of a[i] and b[j]. By Myers, "A fast bit-vector algorithm for approximate string
 * matching", 1999, in one machine word; for strings of over 64 code points by the plain recurrence. */
void align_costs_row(align_costs *c, uint32_t i, uint32_t lo, uint32_t hi, uint32_t *cost);

/* out (n): 0 where a string of b is that of a[i], else 1: what a cell of row i costs at least. */
void align_costs_least(const align_costs *c, uint8_t *out);

/* No pair costs more. */
uint32_t align_costs_most(const align_costs *c);

#endif
