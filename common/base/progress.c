#include "common/base/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR 24            /* characters */
#define REDRAW 0.1        /* seconds between redraws on a terminal */
#define PLAIN_EVERY 10.0  /* seconds between lines elsewhere */

double kf_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void kf_format_count(char *out, int size, double n)
{
	static const char unit[] = { 0, 'k', 'M', 'G', 'T', 'P' };
	int u = 0;

	while (fabs(n) >= 999.5 && u < 5) {
		n /= 1000;
		u++;
	}
	if (!u) snprintf(out, (size_t)size, n == floor(n) ? "%.0f" : "%.1f", n);
	else snprintf(out, (size_t)size, "%.*f%c", fabs(n) < 9.995 ? 2 : fabs(n) < 99.95 ? 1 : 0, n, unit[u]);
}

void kf_format_time(char *out, int size, double s)
{
	long t = s < 0 ? 0 : s > 3.15e9 ? 3150000000L : (long)(s + 0.5);

	if (t < 60) snprintf(out, (size_t)size, s < 9.95 && s > 0 ? "%.1fs" : "%.0fs", s < 0 ? 0 : s);
	else if (t < 3600) snprintf(out, (size_t)size, "%ldm%02lds", t / 60, t % 60);
	else if (t < 360000) snprintf(out, (size_t)size, "%ldh%02ldm", t / 3600, t / 60 % 60);
	else snprintf(out, (size_t)size, "%ldd%02ldh", t / 86400, t / 3600 % 24);
}

static void show(kf_progress *p, double now, bool last)
{
	char done[16], total[16], rate[16], left[16], bar[3 * BAR + 8] = "";
	double run = now - p->start, r = run > 0 ? (p->done - p->base) / run : 0;
	double share = p->total > 0 ? p->done / p->total : 0;

	if (share > 1) share = 1;
	kf_format_count(done, sizeof done, p->done);
	kf_format_count(total, sizeof total, p->total);
	kf_format_count(rate, sizeof rate, r);
	if (last) kf_format_time(left, sizeof left, run);
	else if (p->total > 0 && r > 0) kf_format_time(left, sizeof left, (p->total - p->done) / r);
	else snprintf(left, sizeof left, "?");
	if (p->terminal && p->total > 0 && !last) {
		int full = (int)(share * BAR + 0.5);

		snprintf(bar, sizeof bar, "[%.*s%.*s] ", full, "########################", BAR - full, "........................");
	}
	if (p->terminal) fprintf(stderr, "\r\033[K");
	if (last || p->total <= 0)
		fprintf(stderr, "%s: %s %s, %s/s, %s%s", p->label, done, p->unit, rate, left, last ? "" : " left");
	else
		fprintf(stderr, "%s: %s%3.0f%% %s/%s %s, %s/s, %s left", p->label, bar, share * 100, done, total, p->unit, rate, left);
	if (p->note[0]) fprintf(stderr, ", %s", p->note);
	if (!p->terminal || last) fputc('\n', stderr);
	fflush(stderr);
	p->last = now;
	p->shown = true;
}

void kf_progress_start(kf_progress *p, const char *label, const char *unit, double total, int mode)
{
	memset(p, 0, sizeof *p);
	p->label = label;
	p->unit = unit;
	p->total = total;
	p->mode = mode;
	p->terminal = mode == KF_PROGRESS_AUTO && isatty(2);
	p->start = p->last = kf_now();
}

void kf_progress_skip(kf_progress *p, double n)
{
	p->done += n;
	p->base += n;
}

void kf_progress_add(kf_progress *p, double n)
{
	double now;

	p->done += n;
	if (p->mode == KF_PROGRESS_NONE) return;
	now = kf_now();
	/* Nothing is shown of what takes less than a second. */
	if (now - p->last >= (p->terminal ? REDRAW : PLAIN_EVERY) && now - p->start >= 1) show(p, now, false);
}

void kf_progress_note(kf_progress *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->note, sizeof p->note, fmt, ap);
	va_end(ap);
}

void kf_progress_end(kf_progress *p)
{
	double now = kf_now();

	if (p->mode != KF_PROGRESS_NONE && (p->shown || now - p->start >= 1)) show(p, now, true);
}
