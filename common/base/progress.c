#include "common/base/progress.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/table.h"

#define BAR 24            /* characters */
#define REDRAW 0.1        /* seconds between redraws on a terminal */
#define SETTLE 30.0       /* seconds: a rate is of no shorter time */

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
	else if (t < 172800) snprintf(out, (size_t)size, "%ldh%02ldm", t / 3600, t / 60 % 60);
	else snprintf(out, (size_t)size, "%ldd%02ldh", t / 86400, t / 3600 % 24);
}

/* Seconds between lines where there is no terminal. */
static double line_every(double run)
{
	return run < 120 ? 10 : run < 3600 ? 60 : 600;
}

static double average(const kf_progress *p, double now)
{
	return now > p->start ? (p->done - p->base) / (now - p->start) : 0;
}

/* An average in which what is a quarter of the run old, an hour at most, counts for a third. */
static void follow(kf_progress *p, double now)
{
	double dt = now - p->mark, tau = (now - p->start) / 4;

	if (dt < 1) return;
	tau = fmin(fmax(tau, SETTLE), 3600);
	if (p->mark <= p->start) p->rate = average(p, now);
	else p->rate += (1 - exp(-dt / tau)) * ((p->done - p->marked) / dt - p->rate);
	p->mark = now;
	p->marked = p->done;
}

static void show_json(const kf_progress *p, double now, double rate, bool last)
{
	char when[32] = "";
	time_t t = time(NULL);
	struct tm tm;
	json_t *o;
	char *text;

	if (gmtime_r(&t, &tm)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	o = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:b}", "time", when, "what", p->label, "unit", p->unit, "done", p->done,
		"seconds", now - p->start, "rate", rate, "end", last);
	if (o && p->total > 0) json_object_set_new(o, "total", json_real(p->total));
	if (o && p->total > 0 && rate > 0 && !last) json_object_set_new(o, "seconds_left", json_real(fmax(0, (p->total - p->done) / rate)));
	if (o && p->shards) json_object_set_new(o, "shards", json_pack("[i, i]", p->shards_done, p->shards));
	if (o && p->note[0]) json_object_set_new(o, "note", json_string(p->note));
	text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	if (text) fprintf(stderr, "%s\n", text);
	free(text);
	json_decref(o);
}

/* Columns of the terminal; 0: not known. */
static int columns(void)
{
	const char *said = getenv("COLUMNS");
	const int has = kf_terminal_columns(STDERR_FILENO);

	return has ? has : said ? atoi(said) : 0;
}

/* A line; on a terminal what is longer than it would leave a line behind each time, so the bar gives way first, and then the end. */
static void show_text(const kf_progress *p, double now, double r, bool last)
{
	char done[16], total[16], rate[16], left[16], line[512], when[32] = "";
	double share = p->total > 0 ? p->done / p->total : 0;
	const int most = p->terminal && !last ? columns() : 0;
	time_t t = time(NULL);
	struct tm tm;
	int bar = p->terminal && p->total > 0 && !last ? BAR : 0, n = 0, width;

	if (share > 1) share = 1;
	kf_format_count(done, sizeof done, p->done);
	kf_format_count(total, sizeof total, p->total);
	kf_format_count(rate, sizeof rate, r);
	if (last) kf_format_time(left, sizeof left, now - p->start);
	else if (p->total > 0 && r > 0) kf_format_time(left, sizeof left, (p->total - p->done) / r);
	else snprintf(left, sizeof left, "?");
	for (;;) {
		const int full = (int)(share * bar + 0.5);

		if (last || p->total <= 0)
			n = snprintf(line, sizeof line, "%s: %s %s, %s/s, %s%s", p->label, done, p->unit, rate, left, last ? "" : " left");
		else
			n = snprintf(line, sizeof line, "%s: %s%.*s%.*s%s%3.0f%% %s/%s %s, %s/s, %s left", p->label, bar ? "[" : "", full,
				"########################", bar - full, "........................", bar ? "] " : "", share * 100, done, total, p->unit, rate, left);
		if (p->shards > 1 && n < (int)sizeof line) n += snprintf(line + n, sizeof line - (size_t)n, ", %d of %d shards", p->shards_done, p->shards);
		if (p->note[0] && n < (int)sizeof line) n += snprintf(line + n, sizeof line - (size_t)n, ", %s", p->note);
		if (!most || (width = kf_text_width(line)) < most || !bar) break;
		bar -= width - most + 1;
		if (bar < 4) bar = 0;
	}
	if (most) line[kf_text_fit(line, most - 1)] = 0;
	if (p->terminal) fprintf(stderr, "\r\033[K");
	else if (localtime_r(&t, &tm) && strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm)) fprintf(stderr, "%s ", when);
	fputs(line, stderr);
	if (!p->terminal || last) fputc('\n', stderr);
}

static void show(kf_progress *p, double now, bool last)
{
	double rate;

	follow(p, now);
	rate = last ? average(p, now) : p->rate;
	if (p->mode == KF_PROGRESS_JSON) show_json(p, now, rate, last);
	else show_text(p, now, rate, last);
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
	p->start = p->last = p->mark = kf_now();
}

void kf_progress_skip(kf_progress *p, double n)
{
	p->done += n;
	p->base += n;
	p->marked += n;
}

void kf_progress_shards(kf_progress *p, int done, int shards)
{
	p->shards_done = done;
	if (shards) p->shards = shards;
}

void kf_progress_add(kf_progress *p, double n)
{
	double now;

	p->done += n;
	if (p->mode == KF_PROGRESS_NONE) return;
	now = kf_now();
	/* Nothing is shown of what takes less than a second. */
	if (now - p->last >= (p->terminal ? REDRAW : line_every(now - p->start)) && now - p->start >= 1) show(p, now, false);
}

void kf_progress_note(kf_progress *p, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	snprintf(p->note, sizeof p->note, "%.*s", (int)kf_text_cut(text, sizeof p->note - 1), text);
	/* names come from outside, and a terminal obeys what is among them */
	for (char *c = p->note; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

void kf_progress_end(kf_progress *p)
{
	double now = kf_now();

	if (p->mode != KF_PROGRESS_NONE && (p->shown || now - p->start >= 1)) show(p, now, true);
}
