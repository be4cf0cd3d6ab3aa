/* Progress of anything that takes over a second, to standard error: a bar with rate and time left on a terminal; elsewhere a
 * plain line with the time of day, or a JSON object a line, every ten seconds at first, every minute after two, every ten
 * minutes after an hour, so that the log of a week has a thousand of them.
 *
 * The rate is of late, not since the start (over the last quarter of the run, an hour at most), and so is the time left; the
 * last line has the rate of the whole run. */
#ifndef KF_BASE_PROGRESS_H
#define KF_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { KF_PROGRESS_AUTO, KF_PROGRESS_PLAIN, KF_PROGRESS_JSON, KF_PROGRESS_NONE };

typedef struct {
	const char *label, *unit;
	double total, done, start, last;   /* start, last: seconds, monotonic clock */
	double base;                       /* done when this run began: does not count in the rate */
	double rate, mark, marked;         /* of late; when it was last looked at, and how much was done then */
	int shards_done, shards;           /* 0 shards: of nothing in shards */
	int mode;
	bool terminal, shown;
	char note[64];                     /* a short word after the figures, e.g. "loss 2.31" */
} kf_progress;

/* total <= 0: unknown. label and unit ("tokens", "documents") are borrowed. */
void kf_progress_start(kf_progress *p, const char *label, const char *unit, double total, int mode);
void kf_progress_skip(kf_progress *p, double n); /* done by an earlier run */
void kf_progress_add(kf_progress *p, double n);
/* What is too long is cut between characters; control characters become question marks. */
void kf_progress_note(kf_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kf_progress_shards(kf_progress *p, int done, int shards); /* shards 0: as said before */
void kf_progress_end(kf_progress *p);            /* prints the last line: total, rate, time taken */

double kf_now(void);                             /* seconds, monotonic */
void kf_format_count(char *out, int size, double n);   /* 1234567 -> "1.23M" */
void kf_format_time(char *out, int size, double s);    /* 3725 -> "1h02m", 200000 -> "2d07h" */

#endif
