/* What is wrong in several places, for one message: the first few, and how many more. */
#ifndef KF_BASE_LISTING_H
#define KF_BASE_LISTING_H

#include "common/base/mem.h"

typedef struct {
	kf_buf text;   /* the first KF_LISTED, with commas between; no NUL */
	int n;         /* all */
} kf_listing;

#define KF_LISTED 8

void kf_listing_add(kf_listing *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append "WHAT THING[s] a, b and 3 more" to out, after "; " where there is something; nothing for an empty list. */
void kf_listing_put(const kf_listing *l, kf_buf *out, const char *what, const char *thing);
void kf_listing_release(kf_listing *l);

#endif
