/* Small made-up tokenizers, texts and language models whose whole distributions are known. */
#ifndef KF_TEST_SYNTH_H
#define KF_TEST_SYNTH_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align/align.h"
#include "common/base/rng.h"

#define SYNTH_MAX 64

/* A byte-level BPE vocabulary: the letters of base, the merges, "<eos>" (control) last. A merge is "ab c". */
static inline kf_tokenizer *synth_bpe(const char *base, const char *const *merges, int n_merges, bool bos)
{
	static char joined[SYNTH_MAX][32], letters[SYNTH_MAX][2];
	const char *pieces[SYNTH_MAX];
	int32_t types[SYNTH_MAX], n = 0;
	kf_tokenizer *t = NULL;
	kf_err err = { 0 };

	for (const char *p = base; *p; p++, n++) {
		snprintf(letters[n], 2, "%c", *p);
		pieces[n] = letters[n];
		types[n] = KF_TT_NORMAL;
	}
	for (int i = 0; i < n_merges; i++, n++) {
		const char *space = strchr(merges[i], ' ');

		snprintf(joined[i], sizeof joined[i], "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
		pieces[n] = joined[i];
		types[n] = KF_TT_NORMAL;
	}
	pieces[n] = "<eos>";
	types[n++] = KF_TT_CONTROL;
	kf_vocab_spec spec = { .model = "gpt2", .pre = "gpt-2", .n = n, .pieces = pieces, .types = types, .n_merges = n_merges,
		.merges = merges, .bos = n - 1, .eos = n - 1, .unk = -1, .pad = -1, .add_bos = bos };
	if (kf_tokenizer_from_spec(&spec, &t, &err) != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return t;
}

/* A SentencePiece vocabulary with every single letter of base, "▁" and the pieces given, best first. */
static inline kf_tokenizer *synth_spm(const char *base, const char *const *more, int n_more, bool dummy)
{
	static char letters[SYNTH_MAX][2];
	const char *pieces[SYNTH_MAX] = { "<unk>", "<s>", "</s>", "\xe2\x96\x81" };
	int32_t types[SYNTH_MAX] = { KF_TT_UNKNOWN, KF_TT_CONTROL, KF_TT_CONTROL, KF_TT_NORMAL }, n = 4;
	float scores[SYNTH_MAX] = { 0, 0, 0, -1000 };
	kf_tokenizer *t = NULL;
	kf_err err = { 0 };

	for (int i = 0; i < n_more; i++, n++) {
		pieces[n] = more[i];
		types[n] = KF_TT_NORMAL;
		scores[n] = (float)-i;
	}
	for (const char *p = base; *p; p++, n++) {
		snprintf(letters[n], 2, "%c", *p);
		pieces[n] = letters[n];
		types[n] = KF_TT_NORMAL;
		scores[n] = -1000 - (float)n;
	}
	kf_vocab_spec spec = { .model = "llama", .n = n, .pieces = pieces, .scores = scores, .types = types, .bos = 1, .eos = 2,
		.unk = 0, .pad = -1, .add_bos = true, .add_space_prefix = dummy };
	if (kf_tokenizer_from_spec(&spec, &t, &err) != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return t;
}

/* A model's answers about a text: tokens by its tokenizer, a random distribution at every position. */
typedef struct {
	kf_logits_rec rec;
	const kf_tokenizer *tok;
	const uint8_t *text;
	double *dist;         /* (n + 1, V) everything, not only what rec stores */
} synth_model;

static inline double synth_mass(const synth_model *m, uint32_t i, const uint8_t *prefix, uint32_t n)
{
	int32_t v = kf_tokenizer_size(m->tok);
	double mass = 0;

	for (int32_t id = 0; id < v; id++) {
		uint32_t len;
		const uint8_t *b = kf_tokenizer_bytes(m->tok, id, &len);

		if (!kf_tokenizer_is_control(m->tok, id) && len >= n && memcmp(b, prefix, n) == 0) mass += m->dist[(size_t)i * v + id];
	}
	return mass;
}

/* k candidates; extras: those others that lie in some interior range, each with probability 1/2. */
static inline synth_model synth_run(const kf_tokenizer *tok, const uint8_t *text, uint32_t bytes, uint32_t k, bool bos,
	kf_rng *rng, kf_arena *arena)
{
	synth_model m = { .tok = tok, .text = text };
	kf_logits_rec *r = &m.rec;
	kf_encoding enc;
	kf_err err = { 0 };
	int32_t v = kf_tokenizer_size(tok);

	if (kf_tokenizer_encode(tok, text, bytes, false, arena, &enc, &err) != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	uint32_t n = enc.n, paths = 0, extras = 0, dummy = kf_tokenizer_dummy_prefix(tok);
	float *ce = KF_ARENA_NEW(arena, float, n + 1), *lp = KF_ARENA_NEW(arena, float, (n + 1) * k);
	float *nlm = KF_ARENA_NEW(arena, float, bytes + 1), *xlp = KF_ARENA_NEW(arena, float, (n + 1) * (size_t)v);
	int32_t *ids = KF_ARENA_NEW(arena, int32_t, (n + 1) * k), *xid = KF_ARENA_NEW(arena, int32_t, (n + 1) * (size_t)v);
	uint32_t *off = KF_ARENA_NEW(arena, uint32_t, n + 1), *xoff = KF_ARENA_NEW(arena, uint32_t, n + 2);
	uint8_t *stream = KF_ARENA_NEW(arena, uint8_t, bytes + 2);

	stream[0] = ' ';
	memcpy(stream + dummy, text, bytes);
	m.dist = KF_ARENA_NEW(arena, double, (n + 1) * (size_t)v);
	for (uint32_t i = 0; i <= n; i++) {
		double *d = m.dist + (size_t)i * v, sum = 0;
		bool used[SYNTH_MAX] = { false };
		/* where the token begins and ends in its own stream */
		uint32_t from = i == 0 ? 0 : enc.start[i] + dummy, to = i < n ? enc.start[i + 1] + dummy : from;

		for (int32_t id = 0; id < v; id++) sum += d[id] = exp(2 * kf_rng_normal(rng));
		for (int32_t id = 0; id < v; id++) d[id] /= sum;
		for (uint32_t j = 0; j < k; j++) {
			int32_t best = -1;

			for (int32_t id = 0; id < v; id++)
				if (!used[id] && (best < 0 || d[id] > d[best])) best = id;
			used[best] = true;
			ids[(size_t)i * k + j] = i == 0 && !bos ? -1 : best;
			lp[(size_t)i * k + j] = i == 0 && !bos ? -INFINITY : (float)log(d[best]);
		}
		xoff[i] = extras;
		if (i < n) {
			ce[i] = i == 0 && !bos ? NAN : (float)-log(d[enc.ids[i]]);
			off[i] = paths;
			for (uint32_t x = enc.start[i] + 1; x < enc.start[i + 1]; x++)
				nlm[paths++] = i == 0 && !bos ? 0 : (float)-log(synth_mass(&m, i, stream + from, x + dummy - from));
			for (int32_t id = 0; id < v && to > from + 1 && (i > 0 || bos); id++) {
				uint32_t len;
				const uint8_t *b = kf_tokenizer_bytes(tok, id, &len);

				if (used[id] || kf_tokenizer_is_control(tok, id) || len == 0 || b[0] != stream[from]) continue;
				if (kf_rng_below(rng, 2)) continue;
				xid[extras] = id;
				xlp[extras++] = (float)log(d[id]);
			}
			for (uint32_t a = xoff[i]; a < extras; a++) {
				for (uint32_t b = a + 1; b < extras; b++) {
					if (xlp[b] <= xlp[a]) continue;
					float f = xlp[a];
					int32_t t = xid[a];

					xlp[a] = xlp[b];
					xlp[b] = f;
					xid[a] = xid[b];
					xid[b] = t;
				}
			}
		}
	}
	off[n] = paths;
	xoff[n + 1] = extras;
	*r = (kf_logits_rec){ .head = { .doc = 7, .id = "", .domain = "synthetic", .bytes = bytes }, .bos = bos, .n = n, .k = k,
		.tokens = enc.ids, .start = enc.start, .ce = ce, .top_ids = ids, .top_lp = lp, .has_path = true, .path_off = off,
		.path_nlm = nlm, .extra_off = xoff, .extra_ids = xid, .extra_lp = xlp };
	return m;
}

#endif
