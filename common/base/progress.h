/* Progress of anything that takes over a second: a bar with rate and time left
 * on a terminal, a plain line every ten seconds otherwise; to standard error. */
#ifndef KF_BASE_PROGRESS_H
#define KF_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { KF_PROGRESS_AUTO, KF_PROGRESS_PLAIN, KF_PROGRESS_NONE };

typedef struct {
	const char *label, *unit;
	double total, done, start, last;   /* start, last: seconds, monotonic clock */
	double base;                       /* done when this run began: does not count in the rate */
	int mode;
	bool terminal, shown;
	char note[64];                     /* a short word after the figures, e.g. "loss 2.31" */
} kf_progress;

/* total <= 0: unknown. label and unit ("tokens", "documents") are borrowed. */
void kf_progress_start(kf_progress *p, const char *label, const char *unit, double total, int mode);
void kf_progress_skip(kf_progress *p, double n); /* done by an earlier run */
void kf_progress_add(kf_progress *p, double n);
void kf_progress_note(kf_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kf_progress_end(kf_progress *p);            /* prints the last line: total, rate, time taken */

double kf_now(void);                             /* seconds, monotonic */
void kf_format_count(char *out, int size, double n);   /* 1234567 -> "1.23M" */
void kf_format_time(char *out, int size, double s);    /* 3725 -> "1h02m" */

#endif
