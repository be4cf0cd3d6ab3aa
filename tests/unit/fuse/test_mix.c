/* Fusion by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/store/sparse.h"
#include "common/base/rng.h"
#include "fuse/fuse.h"

#define L(x) ((float)log(x))
#define N(x) ((float)-log(x))

static void near(double a, double b)
{
	if (!(fabs(a - b) < 1e-5)) fail_msg("%.7f is not %.7f", a, b);
}

static double q_of(const kf_dist_rec *r, uint32_t p, int32_t id)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++)
		if (r->ids[j] == id) return exp(r->lp[j]);
	return 0;
}

/* Text of 6 bytes, tokens 1 (2 bytes) and 2 (4 bytes).
 * Target: p(1) = .5, p(2) = .1 (not among its two candidates 3: .6, 4: .2 there), then 5: .8, 6: .1
 * A:      p(1) = .25, p(2) = .4;  B: nothing at 0 (no BOS), p(2) = .8 */
static const int32_t tokens[] = { 1, 2 };
static const uint32_t start[] = { 0, 2, 6 };
static const int32_t own_ids[] = { 1, 7, 3, 4, 5, 6 };
static const kf_dochead head = { .doc = 3, .id = "x", .domain = "d", .bytes = 6 };

static kf_logits_rec target(void)
{
	static float ce[2], lp[6];
	const float c[] = { N(.5), N(.1) }, l[] = { L(.5), L(.3), L(.6), L(.2), L(.8), L(.1) };

	memcpy(ce, c, sizeof c);
	memcpy(lp, l, sizeof l);
	return (kf_logits_rec){ .head = head, .bos = true, .n = 2, .k = 2, .tokens = tokens, .start = start, .ce = ce,
		.top_ids = own_ids, .top_lp = lp };
}

static kf_dist_rec source_a(void)
{
	static float ce[2], lp[5], tail[3];
	static const uint32_t off[] = { 0, 2, 4, 5 };
	static const int32_t ids[] = { 7, 1, 2, 3, 5 };
	const float c[] = { N(.25), N(.4) }, l[] = { L(.5), L(.25), L(.4), L(.3), L(.4) }, t[] = { .25f, .3f, .6f };

	memcpy(ce, c, sizeof c);
	memcpy(lp, l, sizeof l);
	memcpy(tail, t, sizeof t);
	return (kf_dist_rec){ .head = head, .bos = true, .source_tokens = 4, .n = 2, .tokens = tokens, .start = start, .ce = ce,
		.off = off, .ids = ids, .lp = lp, .tail = tail };
}

static kf_dist_rec source_b(void)
{
	static float ce[2], lp[2], tail[3];
	static const uint32_t off[] = { 0, 0, 1, 2 };
	static const int32_t ids[] = { 2, 6 };
	const float c[] = { NAN, N(.8) }, l[] = { L(.8), L(.9) }, t[] = { NAN, .2f, .1f };

	memcpy(ce, c, sizeof c);
	memcpy(lp, l, sizeof l);
	memcpy(tail, t, sizeof t);
	return (kf_dist_rec){ .head = head, .bos = true, .source_tokens = 1, .n = 2, .tokens = tokens, .start = start, .ce = ce,
		.off = off, .ids = ids, .lp = lp, .tail = tail };
}

static kf_dist_rec fuse(const kf_fuse_how *how, const kf_dist_rec *a, int m, kf_arena *arena, kf_fuse_tally *tally)
{
	kf_logits_rec t = target();
	kf_dist_rec out;
	kf_err err = { 0 };

	if (kf_fuse_doc(how, &t, a, m, arena, &out, tally, &err) != KF_OK) fail_msg("%s", err.text);
	for (uint32_t p = 0; p <= out.n; p++) {
		double sum = 0;

		for (uint32_t j = out.off[p]; j < out.off[p + 1]; j++) {
			sum += exp((double)out.lp[j]);
			assert_true(j == out.off[p] || out.lp[j] <= out.lp[j - 1]);
		}
		assert_true(sum <= 1);
		if (out.off[p] < out.off[p + 1]) near(out.tail[p], 1 - sum);
		else assert_true(isnan(out.tail[p]));
	}
	return out;
}

/* Only token 2 (4 bytes) is everybody's: CE a byte .5756, .2291, .0558; B is best. At 0, where B has nothing, A's CE
 * .2291 is the best of the rest. */
static void min_ce_sequence(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_MIN_CE, .with_target = true };
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 0, 7), .5);
	near(q_of(&r, 0, 1), .25);
	near(r.ce[0], -log(.25));
	near(q_of(&r, 1, 2), .8);
	near(r.ce[1], -log(.8));
	near(q_of(&r, 2, 6), .9);
	assert_int_equal(t.best, 2);
	near(t.bytes, 4);
	near(t.tokens, 1);
	near(t.ce[0], -log(.1));
	near(t.ce[1], -log(.4));
	near(t.share[1], 1);
	near(t.share[2], 1);
	near(t.positions, 2);
	near(t.target_ce, -log(.1));
	near(t.fused_ce, -log(.8));
	assert_null(r.weight);

	/* By the papers' metric: target (.6931 + 2.3026) / 2 = 1.4979, A (1.3863 + .9163) / 4 = .5757, B .2231 / 1: B. With A
	 * cut into 40 tokens it is A, for no better reason: such values say how a tokenizer cuts. */
	how.metric = KF_FUSE_TOKEN;
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 1, 2), .8);
	a[0].source_tokens = 40;
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 1, 2), .4);
	kf_arena_release(&arena);
}

/* A token each: at 0 the target (.5 against .25), at 1 B; at the end, which has no ce, the document's best: B. */
static void min_ce_token(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_MIN_CE, .level = KF_FUSE_BY_TOKEN, .with_target = true };
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 0, 1), .5);
	near(q_of(&r, 0, 7), .3);
	near(q_of(&r, 1, 2), .8);
	near(q_of(&r, 2, 6), .9);
	/* without the target: A at 0 */
	how.with_target = false;
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 0, 7), .5);
	assert_int_equal(t.models, 2);
	kf_arena_release(&arena);
}

/* CE a byte times 3 bytes a token: x = 1.7269, .6872, .1674. exp(exp(-x)) = 1.1946, 1.6536, 2.3297; their
 * sum 5.1779: w = .23071, .31936, .44993. At 0 without B: .41943, .58057. */
static void avg_ce_sequence(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_AVG_CE, .with_target = true };
	kf_fuse_tally t;
	kf_arena arena;
	double x[] = { -log(.1) / 4 * 3, -log(.4) / 4 * 3, -log(.8) / 4 * 3 }, e[3], w[3], v;

	(void)state;
	kf_arena_init(&arena);
	for (int i = 0; i < 3; i++) e[i] = exp(exp(-x[i]));
	for (int i = 0; i < 3; i++) w[i] = e[i] / (e[0] + e[1] + e[2]);
	v = e[0] / (e[0] + e[1]);
	assert_true(fabs(w[0] - .23071) < 2e-4 && fabs(w[1] - .31936) < 2e-4 && fabs(v - .41943) < 2e-4);
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 0, 1), v * .5 + (1 - v) * .25);
	near(q_of(&r, 0, 7), v * .3 + (1 - v) * .5);
	near(r.ce[0], -log(v * .5 + (1 - v) * .25));
	/* the target's own label is known though it is not among its candidates */
	near(q_of(&r, 1, 2), w[0] * .1 + w[1] * .4 + w[2] * .8);
	near(q_of(&r, 1, 3), w[0] * .6 + w[1] * .3);
	near(q_of(&r, 1, 4), w[0] * .2);
	near(r.tail[1], w[0] * .1 + w[1] * .3 + w[2] * .2);
	near(r.ce[1], -log(w[0] * .1 + w[1] * .4 + w[2] * .8));
	near(q_of(&r, 2, 5), w[0] * .8 + w[1] * .4);
	near(q_of(&r, 2, 6), w[0] * .1 + w[2] * .9);
	near(t.share[0], v + w[0]);
	near(t.share[2], w[2]);
	kf_arena_release(&arena);
}

/* At 1 by its own values: x = 2.3026, .9163, .2231. */
static void avg_ce_token(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_AVG_CE, .level = KF_FUSE_BY_TOKEN, .with_target = true };
	kf_fuse_tally t;
	kf_arena arena;
	double e[] = { exp(.1), exp(.4), exp(.8) }, s = e[0] + e[1] + e[2];

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, a, 2, &arena, &t);
	near(q_of(&r, 1, 2), (e[0] * .1 + e[1] * .4 + e[2] * .8) / s);
	near(q_of(&r, 0, 1), (exp(.5) * .5 + exp(.25) * .25) / (exp(.5) + exp(.25)));
	kf_arena_release(&arena);
}

/* Nothing to compare (B alone covers nothing in common with a source that lacks token 2): equal weights. */
static void nothing_in_common(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_AVG_CE, .with_target = false };
	kf_fuse_tally t;
	kf_arena arena;
	float none[] = { N(.25), NAN };

	(void)state;
	kf_arena_init(&arena);
	a[0].ce = none;
	r = fuse(&how, a, 2, &arena, &t);
	assert_int_equal(t.best, -1);
	near(q_of(&r, 1, 2), .5 * .4 + .5 * .8);
	near(q_of(&r, 0, 7), .5);           /* alone there */
	/* no model has a distribution at 0: none */
	r = fuse(&how, a + 1, 1, &arena, &t);
	assert_int_equal(r.off[1], 0);
	assert_true(isnan(r.ce[0]));
	kf_arena_release(&arena);
}

/* Fused ce .2231 against the target's 2.3026 on the compared bytes: advantage .9031; at a full one of 2 the weight is
 * .4515, at .5 it is 1. A source that is no better gives 0. */
static void advantage(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_MIN_CE, .with_target = true, .weight = KF_FUSE_WEIGHT_ADVANTAGE, .full = 2 };
	kf_fuse_tally t;
	kf_arena arena;
	float worse[] = { N(.1), N(.01) };

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, a, 2, &arena, &t);
	near(r.weight[0], (1 - log(.8) / log(.1)) / 2);
	near(r.weight[2], r.weight[0]);
	how.full = .5;
	r = fuse(&how, a, 2, &arena, &t);
	near(r.weight[1], 1);
	a[0].ce = worse;
	how.with_target = false;
	r = fuse(&how, a, 1, &arena, &t);
	near(r.weight[1], 0);
	kf_arena_release(&arena);
}

/* Weights of the domain: .2, .3, .5; at 0, where B has nothing, .4 and .6. Another domain has all's. */
static void by_domain(void **state)
{
	kf_fuse_entry e[] = { { .domain = (char *)"d", .has_w = true, .w = { .2, .3, .5 }, .has_advantage = true, .advantage = .05 },
		{ .domain = NULL, .has_w = true, .w = { 0, 0, 1 } } };
	kf_fuse_table table = { .item = e, .n = 2 };
	kf_dist_rec a[] = { source_a(), source_b() }, r;
	kf_fuse_how how = { .function = KF_FUSE_DOMAIN, .with_target = true, .table = &table, .weight = KF_FUSE_WEIGHT_DOMAIN, .full = .1 };
	kf_logits_rec t = target();
	kf_fuse_tally tally;
	kf_arena arena;
	kf_err err;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, a, 2, &arena, &tally);
	near(q_of(&r, 0, 1), .4 * .5 + .6 * .25);
	near(q_of(&r, 1, 2), .2 * .1 + .3 * .4 + .5 * .8);
	near(r.tail[1], .2 * .1 + .3 * .3 + .5 * .2);
	near(r.ce[1], -log(.54));
	near(q_of(&r, 2, 6), .2 * .1 + .5 * .9);
	near(tally.fused_ce, -log(.54));
	near(tally.equal_ce, -log(1.3 / 3));
	near(r.weight[0], .5);
	near(r.weight[2], .5);
	near(tally.weight, .5);

	/* all's weight is B's alone: at 0, where it has nothing, nobody may stand for it */
	e[0].domain = (char *)"other";
	how.weight = KF_FUSE_WEIGHT_NONE;
	r = fuse(&how, a, 2, &arena, &tally);
	assert_int_equal(r.off[1], 0);
	assert_true(isnan(r.ce[0]));
	near(q_of(&r, 1, 2), .8);
	table.n = 1;
	assert_int_equal(kf_fuse_doc(&how, &t, a, 2, &arena, &r, &tally, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "domain \"d\""));
	table.n = 2;
	how.weight = KF_FUSE_WEIGHT_DOMAIN;
	assert_int_equal(kf_fuse_doc(&how, &t, a, 2, &arena, &r, &tally, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "no advantage"));
	how.table = NULL;
	assert_int_equal(kf_fuse_doc(&how, &t, a, 2, &arena, &r, &tally, &err), KF_EINVAL);
	kf_arena_release(&arena);
}

/* Two models of two tokens: equal weights for the first, .5 : .25 after it, and after the second .5 * .1 : .25 * .4. The label of a position has no
 * say in its weights. */
static void dynamic(void **state)
{
	kf_dist_rec a = source_a(), r;
	kf_fuse_how how = { .function = KF_FUSE_DYNAMIC, .with_target = true, .follow = { 1, 1, 0 } };
	float other[] = { N(.25), N(.001) };
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, &a, 1, &arena, &t);
	near(q_of(&r, 0, 1), .5 * .5 + .5 * .25);
	near(q_of(&r, 1, 2), (.5 * .1 + .25 * .4) / .75);
	near(r.ce[1], -log((.5 * .1 + .25 * .4) / .75));
	near(q_of(&r, 2, 5), (.05 * .8 + .1 * .4) / .15);
	near(t.share[0], .5 + 2. / 3);
	near(t.fused_ce, -log(.5 * .1 + .25 * .4) - log(.5));          /* the Bayesian mixture's */
	a.ce = other;
	r = fuse(&how, &a, 1, &arena, &t);
	near(q_of(&r, 1, 2), (.5 * .1 + .25 * .4) / .75);
	kf_arena_release(&arena);
}

/* Two models of two tokens, .5 .1 and .25 .4, and a label more for each, that it alone knows: the weight w of the first is where the likelihood
 * (.25 + .25 w) (.4 - .3 w) w (1 - w) is greatest. */
static void by_document(void **state)
{
	kf_dist_rec a = source_a(), r;
	kf_fuse_how how = { .function = KF_FUSE_DOCUMENT, .with_target = true };
	float unknown[] = { NAN, NAN };
	double w = 0, most = 0;
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	for (double v = 1e-6; v < 1; v += 1e-6) {
		const double f = (.25 + .25 * v) * (.4 - .3 * v) * v * (1 - v);

		if (f <= most) continue;
		most = f;
		w = v;
	}
	kf_arena_init(&arena);
	r = fuse(&how, &a, 1, &arena, &t);
	assert_true(fabs(t.share[0] / 2 - w) < 1e-4);
	assert_true(fabs(q_of(&r, 0, 1) - (.25 + .25 * w)) < 1e-4);
	assert_true(fabs(q_of(&r, 1, 2) - (.4 - .3 * w)) < 1e-4);
	assert_true(fabs(t.fused_ce + log(.25 + .25 * w) + log(.4 - .3 * w)) < 1e-4);
	assert_true(t.fused_ce < t.equal_ce && t.fused_ce < t.target_ce);
	/* nothing to compare: equal weights */
	a.ce = unknown;
	r = fuse(&how, &a, 1, &arena, &t);
	near(t.share[0], 1);
	near(q_of(&r, 0, 1), .5 * .5 + .5 * .25);
	kf_arena_release(&arena);
}

/* Candidates scaled to 1 before mixing, the target's own without its label where that is not among them. A at 0: .5 and .25
 * of .75; the target there .5 and .3 of .8. */
static void renormalized(void **state)
{
	kf_dist_rec a = source_a(), r;
	kf_fuse_entry e = { .has_w = true, .w = { .5, .5 } };
	kf_fuse_table table = { .item = &e, .n = 1 };
	kf_fuse_how how = { .function = KF_FUSE_DOMAIN, .with_target = true, .tails = KF_FUSE_TAIL_RENORMALIZE, .table = &table };
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, &a, 1, &arena, &t);
	near(q_of(&r, 0, 1), .5 * .5 / .8 + .5 * .25 / .75);
	near(q_of(&r, 0, 7), .5 * .3 / .8 + .5 * .5 / .75);
	near(q_of(&r, 1, 2), .5 * .4 / .7);
	near(q_of(&r, 1, 3), .5 * .6 / .8 + .5 * .3 / .7);
	near(r.tail[0], 0);
	near(r.tail[1], 0);
	near(r.ce[1], -log(.25));            /* what the models know, not what is made of it */
	kf_arena_release(&arena);
}

/* One source without the target: distillation. Its own distributions, whatever the function. */
static void distillation(void **state)
{
	kf_dist_rec a = source_a(), r;
	kf_fuse_entry e = { .has_w = true, .w = { 1 } };
	kf_fuse_table table = { .item = &e, .n = 1 };
	kf_fuse_how how = { .with_target = false, .table = &table, .follow = { .3, .9, .1 } };
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	for (int f = KF_FUSE_MIN_CE; f <= KF_FUSE_DYNAMIC; f++) {
		how.function = (kf_fuse_function)f;
		r = fuse(&how, &a, 1, &arena, &t);
		for (uint32_t p = 0; p <= a.n; p++) {
			assert_int_equal(r.off[p + 1], a.off[p + 1]);
			for (uint32_t j = a.off[p]; j < a.off[p + 1]; j++) near(q_of(&r, p, a.ids[j]), exp((double)a.lp[j]));
			near(r.tail[p], a.tail[p]);
			if (p < a.n) near(r.ce[p], a.ce[p]);
		}
		near(t.share[0], 2);
		near(t.fused_ce, t.ce[0]);
		near(t.equal_ce, t.ce[0]);
	}
	kf_arena_release(&arena);
}

/* min-ce at token level sees the label: its fused ce is the lowest of each, and the advantage is not measured by it. */
static void honest(void **state)
{
	kf_dist_rec a = source_a();
	kf_fuse_how how = { .level = KF_FUSE_BY_TOKEN, .with_target = true, .weight = KF_FUSE_WEIGHT_ADVANTAGE, .full = 1 };
	kf_dist_rec r;
	kf_fuse_tally t;
	kf_arena arena;

	(void)state;
	kf_arena_init(&arena);
	r = fuse(&how, &a, 1, &arena, &t);
	near(t.fused_ce, -log(.5) - log(.4));
	near(t.equal_ce, -log(.375) - log(.25));
	near(r.weight[0], 1 - t.equal_ce / t.target_ce);
	kf_arena_release(&arena);
}

/* The weight of a position by what came before it: nothing known at 0; after the first label 20 nats decayed and that label. */
static void advantage_by_position(void **state)
{
	kf_dist_rec a = source_a(), r;
	kf_fuse_entry e = { .has_w = true, .w = { 0, 1 } };
	kf_fuse_table table = { .item = &e, .n = 1 };
	kf_fuse_how how = { .function = KF_FUSE_DOMAIN, .with_target = true, .table = &table, .weight = KF_FUSE_WEIGHT_POSITION, .full = .01 };
	float better[] = { N(.9), N(.1) }, lucky[] = { N(.9), N(.99) };
	kf_fuse_tally t;
	kf_arena arena;
	double w, z;

	(void)state;
	kf_arena_init(&arena);
	a.ce = better;
	how.full = 1;
	r = fuse(&how, &a, 1, &arena, &t);
	near(r.weight[0], 0);
	w = 1 - (.99 * 20 - log(.9)) / (.99 * 20 - log(.5));
	near(r.weight[1], w);
	z = 1 - (.99 * (.99 * 20 - log(.9)) - log(.1)) / (.99 * (.99 * 20 - log(.5)) - log(.1));
	near(r.weight[2], z);
	near(t.weight, (w + z) / 3);
	a.ce = lucky;
	r = fuse(&how, &a, 1, &arena, &t);
	near(r.weight[1], w);              /* the label's own luck does not count */
	kf_arena_release(&arena);
}

/* What weights are fitted to: the labels everybody has a ce of. */
static void labels(void **state)
{
	kf_dist_rec a[] = { source_a(), source_b() };
	kf_logits_rec target_rec = target();
	kf_fuse_tally t;
	kf_err err;
	float ce[6];

	(void)state;
	assert_int_equal(kf_fuse_labels(true, &target_rec, a, 2, ce, &t, &err), KF_OK);
	near(t.tokens, 1);
	near(ce[0], -log(.1));
	near(ce[1], -log(.4));
	near(ce[2], -log(.8));
	assert_int_equal(kf_fuse_labels(false, &target_rec, a, 1, ce, &t, &err), KF_OK);
	near(t.tokens, 2);
	near(ce[1], -log(.4));
}

/* A conversation: token 8 is the user's or the template's, context without ce or candidates; 1 and 2 are the reply, and the
 * end of the turn follows. Nothing is counted of what is context. */
static void conversation(void **state)
{
	static const int32_t tok[] = { 8, 1, 2 }, own[] = { -1, -1, 1, 7, 3, 4, 5, 6 }, ids[] = { 7, 1, 2, 3, 5 };
	static const uint32_t from[] = { 0, 9, 11, 15 }, off[] = { 0, 0, 2, 4, 5 };
	static const uint8_t context[] = { 1, 0, 0, 0 };
	const float ce[] = { NAN, N(.5), N(.1) }, lp[] = { -INFINITY, -INFINITY, L(.5), L(.3), L(.6), L(.2), L(.8), L(.1) };
	const float a_ce[] = { NAN, N(.25), N(.4) }, a_lp[] = { L(.5), L(.25), L(.4), L(.3), L(.4) }, a_tail[] = { NAN, .25f, .3f, .6f };
	const kf_dochead h = { .doc = 3, .id = "x", .domain = "d", .bytes = 15 };
	kf_logits_rec t = { .head = h, .bos = true, .n = 3, .k = 2, .tokens = tok, .start = from, .ce = ce, .top_ids = own, .top_lp = lp,
		.context = context };
	kf_dist_rec a = { .head = h, .bos = true, .source_tokens = 4, .n = 3, .tokens = tok, .start = from, .ce = a_ce, .off = off,
		.ids = ids, .lp = a_lp, .tail = a_tail, .context = context }, r;
	kf_fuse_how how = { .with_target = true, .weight = KF_FUSE_WEIGHT_POSITION, .full = 1, .follow = { 1, 1, 0 } };
	double x[2], w[2];
	kf_fuse_tally tally;
	kf_arena arena;
	kf_err err;

	(void)state;
	kf_arena_init(&arena);
	for (int f = KF_FUSE_MIN_CE; f <= KF_FUSE_DYNAMIC; f++) {
		if (f == KF_FUSE_DOMAIN) continue;
		how.function = (kf_fuse_function)f;
		if (kf_fuse_doc(&how, &t, &a, 1, &arena, &r, &tally, &err) != KF_OK) fail_msg("%s", err.text);
		assert_ptr_equal(r.context, context);
		assert_int_equal(r.off[1], 0);
		assert_true(isnan(r.ce[0]));
		near(tally.bytes, 6);
		near(tally.tokens, 2);
		near(tally.share[0] + tally.share[1], 2);
		near(tally.weight, ((double)r.weight[1] + (double)r.weight[2] + (double)r.weight[3]) / 3);
	}
	near(r.ce[2], -log((.5 * .1 + .25 * .4) / .75));      /* dynamic: what was seen is the reply's first label */
	/* avg-ce's scale: bytes a token of the reply, 3, so that 6 bytes' ce over 2 tokens counts */
	how.function = KF_FUSE_AVG_CE;
	x[0] = -log(.5 * .1) / 2;
	x[1] = -log(.25 * .4) / 2;
	kf_fuse_weights(x, 2, 1, w);
	if (kf_fuse_doc(&how, &t, &a, 1, &arena, &r, &tally, &err) != KF_OK) fail_msg("%s", err.text);
	near(r.ce[1], -log(w[0] * .5 + w[1] * .25));
	how.metric = KF_FUSE_TOKEN;                          /* the target's over its two tokens, A's over its four */
	x[1] = -log(.25 * .4) / 4;
	kf_fuse_weights(x, 2, 1, w);
	if (kf_fuse_doc(&how, &t, &a, 1, &arena, &r, &tally, &err) != KF_OK) fail_msg("%s", err.text);
	near(r.ce[1], -log(w[0] * .5 + w[1] * .25));
	kf_arena_release(&arena);
}

static void refuses(void **state)
{
	static const int32_t other[] = { 1, 9 };
	kf_logits_rec t = target();
	kf_dist_rec a = source_a(), out;
	kf_fuse_how how = { .with_target = true };
	kf_fuse_tally tally;
	kf_arena arena;
	kf_err err = { 0 };

	(void)state;
	kf_arena_init(&arena);
	a.tokens = other;
	assert_int_equal(kf_fuse_doc(&how, &t, &a, 1, &arena, &out, &tally, &err), KF_EMISMATCH);
	a = source_a();
	a.head.doc = 4;
	assert_int_equal(kf_fuse_doc(&how, &t, &a, 1, &arena, &out, &tally, &err), KF_EMISMATCH);
	a = source_a();
	a.source_tokens = 0;
	how.metric = KF_FUSE_TOKEN;
	assert_int_equal(kf_fuse_doc(&how, &t, &a, 1, &arena, &out, &tally, &err), KF_EMISMATCH);
	how.with_target = false;
	assert_int_equal(kf_fuse_doc(&how, &t, &a, 0, &arena, &out, &tally, &err), KF_EINVAL);
	kf_arena_release(&arena);
}

/* Many candidates of many models: the mixture is what adding dense vectors gives. */
static void against_dense(void **state)
{
	enum { V = 500, M = 5, K = 40, NT = 20 };
	static float lp[M][(NT + 1) * K], tail[M][NT + 1], ce[M][NT];
	static int32_t ids[M][(NT + 1) * K], tok[NT];
	static uint32_t off[NT + 2], at[NT + 1];
	static double dense[M][NT + 1][V];
	static float tce[NT], tlp[NT + 1];
	static int32_t tid[NT + 1];
	kf_fuse_how how = { .function = KF_FUSE_AVG_CE, .with_target = false };
	kf_dist_rec a[M], out;
	kf_fuse_tally tally;
	kf_arena arena;
	kf_err err;
	kf_rng rng;
	const kf_dochead h = { .doc = 1, .id = "", .domain = "", .bytes = NT };

	(void)state;
	kf_arena_init(&arena);
	kf_rng_seed(&rng, 3);
	for (int p = 0; p <= NT; p++) {
		at[p] = (uint32_t)p;
		off[p] = (uint32_t)p * K;
		tid[p] = -1;
		tlp[p] = -INFINITY;
		if (p < NT) tok[p] = (int32_t)kf_rng_below(&rng, V);
		if (p < NT) tce[p] = 1;
	}
	off[NT + 1] = (NT + 1) * K;
	for (int m = 0; m < M; m++) {
		for (int p = 0; p <= NT; p++) {
			double left = 1;

			for (int j = 0; j < K; j++) {
				int32_t id;
				double q = left * .2;

				do id = (int32_t)kf_rng_below(&rng, V); while (dense[m][p][id] > 0);
				ids[m][p * K + j] = id;
				dense[m][p][id] = q;
				lp[m][p * K + j] = (float)log(q);
				left -= q;
			}
			tail[m][p] = (float)left;
			if (p < NT) ce[m][p] = (float)(1 + kf_rng_real(&rng));
		}
		a[m] = (kf_dist_rec){ .head = h, .bos = true, .source_tokens = NT, .n = NT, .tokens = tok, .start = at, .ce = ce[m],
			.off = off, .ids = ids[m], .lp = lp[m], .tail = tail[m] };
	}
	kf_logits_rec t = { .head = h, .bos = true, .n = NT, .k = 1, .tokens = tok, .start = at, .ce = tce, .top_ids = tid, .top_lp = tlp };
	assert_int_equal(kf_fuse_doc(&how, &t, a, M, &arena, &out, &tally, &err), KF_OK);
	double x[M] = { 0 }, w[M];
	for (int m = 0; m < M; m++)
		for (int p = 0; p < NT; p++) x[m] += ce[m][p] / NT;
	kf_fuse_weights(x, M, 1, w);
	for (uint32_t p = 0; p <= NT; p++) {
		for (int32_t id = 0; id < V; id++) {
			double q = 0;

			for (int m = 0; m < M; m++) q += w[m] * dense[m][p][id];
			if (q > 2 * KF_SPARSE_MIN || q == 0) near(q_of(&out, p, id), q);
		}
	}
	kf_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(min_ce_sequence),
		cmocka_unit_test(min_ce_token),
		cmocka_unit_test(avg_ce_sequence),
		cmocka_unit_test(avg_ce_token),
		cmocka_unit_test(nothing_in_common),
		cmocka_unit_test(advantage),
		cmocka_unit_test(by_domain),
		cmocka_unit_test(dynamic),
		cmocka_unit_test(by_document),
		cmocka_unit_test(renormalized),
		cmocka_unit_test(distillation),
		cmocka_unit_test(honest),
		cmocka_unit_test(advantage_by_position),
		cmocka_unit_test(labels),
		cmocka_unit_test(conversation),
		cmocka_unit_test(refuses),
		cmocka_unit_test(against_dense),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
