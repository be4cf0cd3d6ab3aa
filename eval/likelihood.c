#include "eval/likelihood.h"

#include <math.h>
#include <string.h>

/* A batch being filled: sequences of endings, and of what groups have in common. */
typedef struct {
	int32_t *tokens, *labels, *rows;   /* (cap) */
	int32_t *offset, *row, *before;    /* (cap + 1) */
	int T, S, asked;
	size_t cap;
	bool shares;
	float *ce, *lp;
	int32_t *top;
} batch;

static void release(batch *b)
{
	void *const own[] = { b->tokens, b->labels, b->rows, b->offset, b->row, b->before, b->ce, b->lp, b->top };

	for (size_t i = 0; i < sizeof own / sizeof *own; i++) kf_free(own[i]);
}

static kf_status make(batch *b, size_t cap, kf_err *err)
{
	*b = (batch){ .cap = cap };
	b->tokens = kf_alloc(cap, sizeof *b->tokens);
	b->labels = kf_alloc(cap, sizeof *b->labels);
	b->rows = kf_alloc(cap, sizeof *b->rows);
	b->offset = kf_alloc(cap + 1, sizeof *b->offset);
	b->row = kf_alloc(cap, sizeof *b->row);
	b->before = kf_alloc(cap, sizeof *b->before);
	b->ce = kf_alloc(cap, sizeof *b->ce);
	b->lp = kf_alloc(cap, sizeof *b->lp);
	b->top = kf_alloc(cap, sizeof *b->top);
	if (b->tokens && b->labels && b->rows && b->offset && b->row && b->before && b->ce && b->lp && b->top) return KF_OK;
	release(b);
	return kf_fail(err, KF_ENOMEM, "no memory for a batch of %zu tokens", cap);
}

/* Tokens [from, to) after `before` rows of the batch from row on. */
static void add(batch *b, const int32_t *token, int from, int to, int row, int before)
{
	memcpy(b->tokens + b->T, token + from, (size_t)(to - from) * sizeof *token);
	b->row[b->S] = row;
	b->before[b->S] = before;
	b->shares = b->shares || before > 0;
	b->offset[b->S++] = b->T;
	b->T += to - from;
	b->offset[b->S] = b->T;
}

/* How many tokens the endings of a group have in common before any token that is asked about; the last of these is each
 * one's own, so that it can be asked about different ones. */
static int in_common(const kf_model *m, const kf_ending *e, size_t members)
{
	int n = e[0].from - 1, longest = 0;

	if (members < 2) return 0;
	for (size_t i = 0; i < members; i++) {
		int k = 0;

		if (e[i].from - 1 < n) n = e[i].from - 1;
		if (e[i].n - 1 > longest) longest = e[i].n - 1;
		while (k < n && e[i].token[k] == e[0].token[k]) k++;
		n = k;
	}
	return kf_model_keeps(m, n, longest) ? n : 0;
}

static size_t members_of(const kf_ending *e, size_t n)
{
	size_t k = 1;

	while (k < n && e[k].group == e[0].group) k++;
	return k;
}

static kf_status run(kf_model *m, batch *b, kf_ending *e, size_t n, kf_err *err)
{
	const kf_before before = { .row = b->row, .n = b->before };
	const kf_batch in = { .T = b->T, .S = b->S, .tokens = b->tokens, .offset = b->offset, .before = b->shares ? &before : NULL };
	const kf_score_query q = { .k = 1, .labels = b->labels, .rows = b->rows, .n_rows = b->asked };
	kf_score out = { .ce = b->ce, .top_ids = b->top, .top_lp = b->lp };
	kf_status rc = kf_model_score(m, &in, &q, &out, err);
	int at = 0;

	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		e[i].nats = 0;
		e[i].first_choice = true;
		for (int k = e[i].from; k < e[i].n; k++, at++) {
			e[i].nats += (double)b->ce[at];
			e[i].first_choice = e[i].first_choice && b->top[at] == e[i].token[k];
		}
	}
	b->T = b->S = b->asked = 0;
	b->shares = false;
	return rc;
}

/* The rows of an ending, of which the first is put already or stands before it. */
static void put_ending(batch *b, const kf_ending *e, int common, int row)
{
	int begin = b->T - common;

	add(b, e->token, common, e->n - 1, row, common);
	for (int k = e->from; k < e->n; k++) {
		b->rows[b->asked] = begin + k - 1;
		b->labels[b->asked++] = e->token[k];
	}
}

kf_status kf_endings_score(kf_model *m, int batch_tokens, kf_ending *e, size_t n, void (*done)(void *arg, size_t tokens), void *arg,
	kf_err *err)
{
	size_t first = 0, cap = (size_t)batch_tokens;
	int group = -1, common = 0, row = 0;
	bool grouped = false;              /* whether what the group has in common is in the batch */
	kf_status rc;
	batch b;

	for (size_t i = 0; i < n; i++)
		if ((size_t)e[i].n + 1 > cap) cap = (size_t)e[i].n + 1;
	if ((rc = make(&b, cap, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n && rc == KF_OK; i++) {
		int need;

		if (i == 0 || e[i].group != group) {
			group = e[i].group;
			common = in_common(m, e + i, members_of(e + i, n - i));
			grouped = false;
		}
		need = e[i].n - 1 - (grouped ? common : 0);
		if (b.T > 0 && b.T + need > batch_tokens) {
			size_t tokens = (size_t)b.T;

			rc = run(m, &b, e + first, i - first, err);
			if (done) done(arg, tokens);
			first = i;
			grouped = false;
		}
		if (common && !grouped) {
			row = b.T;
			add(&b, e[i].token, 0, common, 0, 0);
			grouped = true;
		}
		put_ending(&b, &e[i], common, row);
	}
	if (rc == KF_OK && n > first) {
		size_t tokens = (size_t)b.T;

		rc = run(m, &b, e + first, n - first, err);
		if (done) done(arg, tokens);
	}
	release(&b);
	return rc;
}
