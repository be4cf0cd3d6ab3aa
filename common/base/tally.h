/* Sums by domain. A row is a struct of nothing but doubles, so that rows add, over documents, shards
 * and domains, without anybody listing their fields.
 */
#ifndef KF_BASE_TALLY_H
#define KF_BASE_TALLY_H

#include <jansson.h>
#include <stddef.h>

#include "common/base/status.h"

typedef struct {
	size_t width;              /* of a row, in doubles: sizeof(struct) / sizeof(double); set by the owner */
	int n, cap;
	char (*name)[64];          /* (n) domains; names that are longer are told apart by their first 63 bytes or some less */
	double *sum;               /* (n, width) */
} kf_tally;

#define KF_TALLY(type) { .width = sizeof(type) / sizeof(double) }

/* The row of a domain, zeros when it is new; valid until the next call. NULL: no memory. */
void *kf_tally_row(kf_tally *t, const char *domain);
static inline void *kf_tally_at(const kf_tally *t, int i) { return t->sum + (size_t)i * t->width; }
/* to += from, row by row of the same domain. */
kf_status kf_tally_add(kf_tally *to, const kf_tally *from, kf_err *err) KF_MUST_CHECK;
/* row (width) += every row. */
void kf_tally_total(const kf_tally *t, void *row);
void kf_tally_release(kf_tally *t);  /* keeps width */

/* A mean of what was counted, sum / n, as a new reference: null where nothing was. */
json_t *kf_tally_mean(double sum, double n);
/* What such a member of o is in a table: times scale, with so many digits after the point, or a dash; width characters. out (32) is returned. */
const char *kf_tally_cell(char *out, const json_t *o, const char *key, double scale, int width, int digits);

#endif
