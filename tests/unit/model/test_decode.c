/* Generation and likelihoods against the CPU's whole runs, for every tiny model; sampling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "common/base/rng.h"
#include "common/model/decode.h"
#include "eval/likelihood.h"
#include "tests/unit/model/tiny.h"

#ifndef OPS                    /* the backend that generates: tests/unit/emu has the same tests of another */
#define OPS kf_ops_cpu
#define CACHES 1, 1 << 16, 1 << 30   /* bytes: one sequence at once, a few, all */
#define SIZES 1, 4, 16, 64, 256      /* tokens of a batch */
#endif

enum { PROMPTS = 5, MOST = 20, LONGEST = 60 };

static kf_tokenizer *words;    /* turns tokens into text; what it says does not matter */

static int set_up(void **state)
{
	(void)state;
	return kf_tokenizer_open_dir("tests/models/llama-tiny", &words, NULL) == KF_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	kf_tokenizer_free(words);
	return 0;
}

/* The likeliest next token of a whole run, and how far ahead of the next one it is. */
static int32_t whole(kf_model *m, const int32_t *tokens, int n, double *lead)
{
	const int32_t offset[] = { 0, n }, rows[] = { n - 1 };
	const kf_batch b = { .T = n, .S = 1, .tokens = tokens, .offset = offset };
	const kf_score_query q = { .k = 2, .rows = rows, .n_rows = 1 };
	int32_t top[2];
	float ce[1], lp[2];
	kf_score out = { .ce = ce, .top_ids = top, .top_lp = lp };
	kf_err err;

	if (kf_model_score(m, &b, &q, &out, &err) != KF_OK) fail_msg("%s", err.text);
	*lead = (double)lp[0] - lp[1];
	return top[0];
}

/* Within the model's context, which of some is short. */
static void random_prompts(const kf_arch *a, kf_decoding *g, int32_t (*prompt)[LONGEST])
{
	static const int length[PROMPTS] = { 7, 1, 30, 12, 3 };
	kf_rng rng;

	kf_rng_seed(&rng, 3);
	for (int i = 0; i < PROMPTS; i++) {
		int n = length[i] <= a->context / 2 ? length[i] : a->context / 2, most = MOST - i;

		for (int k = 0; k < n; k++) prompt[i][k] = (int32_t)kf_rng_below(&rng, (uint64_t)a->V);
		g[i] = (kf_decoding){ .prompt = prompt[i], .n = n, .most = most <= a->context - n ? most : a->context - n, .end = -1,
			.stream = (uint64_t)i };
	}
}

/* The tokens of a greedy text, found again from whole runs: each next token must be the likeliest, until it ends. */
static void check_greedy(const char *path, const tiny_rig *r, const kf_decoding *g, const int32_t *prompt)
{
	int32_t tokens[LONGEST];
	kf_buf text = { 0 };
	int n = g->n, made = 0;

	memcpy(tokens, prompt, (size_t)n * sizeof *tokens);
	while (made < g->most) {
		double lead;
		int32_t id = whole(r->m, tokens, n, &lead);
		const uint8_t *bytes;
		uint32_t len;

		if (lead < 1e-4) {     /* rounding may tell otherwise from here on */
			kf_buf_release(&text);
			return;
		}
		tokens[n++] = id;
		made++;
		if (id == kf_tokenizer_eos(words)) break;
		if (id < kf_tokenizer_size(words) && (bytes = kf_tokenizer_bytes(words, id, &len)) && len) kf_buf_put(&text, bytes, len);
	}
	if (made != g->tokens || text.len != g->text.len || (text.len && memcmp(text.data, g->text.data, text.len) != 0))
		fail_msg("%s: a prompt of %d tokens went on otherwise (%d tokens, not %d)", path, g->n, g->tokens, made);
	kf_buf_release(&text);
}

static void release_texts(kf_decoding *g)
{
	for (int i = 0; i < PROMPTS; i++) kf_buf_release(&g[i].text);
}

static void greedy(void **state)
{
	char path[TINY_MAX][256];
	int n = tiny_models(path);

	(void)state;
	for (int i = 0; i < n; i++) {
		static const size_t caches[] = { CACHES };
		int32_t prompt[PROMPTS][LONGEST];
		tiny_rig r, cpu;

		tiny_open(&r, path[i], &OPS, 2);
		tiny_open(&cpu, path[i], &kf_ops_cpu, 2);
		for (size_t c = 0; c < sizeof caches / sizeof *caches; c++) {
			const kf_decode_opts o = { .top_p = 1, .batch_tokens = 16, .cache_bytes = caches[c] };
			kf_decoding g[PROMPTS];
			kf_err err;

			random_prompts(kf_model_arch(r.m), g, prompt);
			if (kf_decode(r.m, words, &o, g, PROMPTS, NULL, NULL, &err) != KF_OK) fail_msg("%s: %s", path[i], err.text);
			for (int k = 0; k < PROMPTS; k++) check_greedy(path[i], &cpu, &g[k], prompt[k]);
			release_texts(g);
		}
		tiny_close(&cpu);
		tiny_close(&r);
	}
}

/* A backend that cannot go on runs whole sequences, and says the same. */
static void whole_sequences_only(void **state)
{
	static const char *const models[] = { "tests/models/llama-tiny", "tests/models/families/gemma2" };
	kf_ops poor = kf_ops_cpu;

	(void)state;
	poor.attention_after = NULL;
	for (size_t i = 0; i < 2; i++) {
		const kf_decode_opts o = { .top_p = 1, .batch_tokens = 16, .cache_bytes = 1 << 16 };
		int32_t prompt[PROMPTS][LONGEST], row[1] = { 0 }, n[1] = { 0 };
		const kf_before before = { .row = row, .n = n };
		const int32_t offset[] = { 0, 3 };
		kf_decoding g[PROMPTS];
		float h[3 * 512];
		kf_ending e[3];
		double nats[3];
		tiny_rig r;
		kf_err err;

		tiny_open(&r, models[i], &poor, 2);
		random_prompts(kf_model_arch(r.m), g, prompt);
		assert_int_equal(kf_decode(r.m, words, &o, g, PROMPTS, NULL, NULL, NULL), KF_OK);
		for (int k = 0; k < PROMPTS; k++) check_greedy(models[i], &r, &g[k], prompt[k]);
		release_texts(g);
		const kf_batch b = { .T = 3, .S = 1, .tokens = prompt[0], .offset = offset, .before = &before };
		assert_int_equal(kf_model_hidden(r.m, &b, h, &err), KF_EUNSUPPORTED);
		for (int k = 0; k < 3; k++) {
			prompt[k][6] = k;
			memcpy(prompt[k], prompt[0], 6 * sizeof **prompt);
			e[k] = (kf_ending){ .token = prompt[k], .n = 7, .from = 6 };
		}
		assert_int_equal(kf_endings_score(r.m, 64, e, 3, NULL, NULL, NULL), KF_OK);
		for (int k = 0; k < 3; k++) nats[k] = e[k].nats;
		tiny_close(&r);
		tiny_open(&r, models[i], &kf_ops_cpu, 2);
		assert_int_equal(kf_endings_score(r.m, 64, e, 3, NULL, NULL, NULL), KF_OK);
		for (int k = 0; k < 3; k++) assert_true(fabs(e[k].nats - nats[k]) < 1e-3);
		tiny_close(&r);
	}
}

/* With a seed the same text comes, whatever the threads, the room, and what else is generated; another seed, another text. */
static void sampled(void **state)
{
	static const char *const models[] = { "tests/models/llama-tiny", "tests/models/families/gemma2" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int32_t prompt[PROMPTS][LONGEST];
		kf_buf first[PROMPTS] = { { 0 } };
		int differ = 0;

		for (int round = 0; round < 5; round++) {
			const kf_decode_opts o = { .temperature = 1.3, .top_p = 0.9, .seed = round == 4 ? 2 : 1, .batch_tokens = 16,
				.cache_bytes = round == 2 ? 1 : 1 << 30 };
			kf_decoding g[PROMPTS];
			tiny_rig r;

			tiny_open(&r, models[i], &OPS, round == 1 ? 1 : 3);
			random_prompts(kf_model_arch(r.m), g, prompt);
			/* alone, from the last to the first */
			for (int k = PROMPTS - 1; k >= 0 && round == 3; k--)
				assert_int_equal(kf_decode(r.m, words, &o, &g[k], 1, NULL, NULL, NULL), KF_OK);
			if (round != 3) assert_int_equal(kf_decode(r.m, words, &o, g, PROMPTS, NULL, NULL, NULL), KF_OK);
			for (int k = 0; k < PROMPTS; k++) {
				bool same = first[k].len == g[k].text.len && (!first[k].len || memcmp(first[k].data, g[k].text.data, first[k].len) == 0);

				if (round == 0) kf_buf_put(&first[k], g[k].text.data, g[k].text.len);
				else if (round < 4) assert_true(same);
				else differ += !same;
			}
			release_texts(g);
			tiny_close(&r);
		}
		assert_true(differ >= 3);
		for (int k = 0; k < PROMPTS; k++) kf_buf_release(&first[k]);
	}
}

/* Texts end before a stop string, wherever tokens cut it, at a token that ends them, or at their length. */
static void stops(void **state)
{
	const kf_decode_opts o = { .top_p = 1, .batch_tokens = 64, .cache_bytes = 1 << 30 };
	int32_t prompt[PROMPTS][LONGEST];
	kf_decoding g[PROMPTS], again;
	const char *stop[2] = { "\x01never\x01", NULL };
	char piece[8];
	tiny_rig r;
	int k = 0;

	(void)state;
	tiny_open(&r, "tests/models/llama-tiny", &OPS, 2);
	random_prompts(kf_model_arch(r.m), g, prompt);
	assert_int_equal(kf_decode(r.m, words, &o, g, PROMPTS, NULL, NULL, NULL), KF_OK);
	while (k < PROMPTS && g[k].text.len < 12) k++;
	assert_true(k < PROMPTS);
	/* three bytes of what it said, from the fifth on: no border of a token is looked for */
	memcpy(piece, g[k].text.data + 5, 3);
	piece[3] = 0;
	assert_null(memchr(piece, 0, 3));
	stop[1] = piece;
	again = (kf_decoding){ .prompt = prompt[k], .n = g[k].n, .most = g[k].most, .end = -1, .stop = stop, .n_stop = 2 };
	assert_int_equal(kf_decode(r.m, words, &o, &again, 1, NULL, NULL, NULL), KF_OK);
	assert_int_equal(again.ended, KF_ENDED_STOP);
	assert_true(again.text.len <= 5);
	assert_memory_equal(again.text.data, g[k].text.data, again.text.len);
	assert_memory_equal(g[k].text.data + again.text.len, piece, 3);
	assert_int_equal(g[k].ended == KF_ENDED_LENGTH, g[k].tokens == g[k].most);
	kf_buf_release(&again.text);
	/* the first token it would say ends it */
	double lead;

	again = (kf_decoding){ .prompt = prompt[k], .n = g[k].n, .most = 5, .end = whole(r.m, prompt[k], g[k].n, &lead) };
	assert_int_equal(kf_decode(r.m, words, &o, &again, 1, NULL, NULL, NULL), KF_OK);
	assert_int_equal(again.ended, KF_ENDED_TOKEN);
	assert_int_equal(again.tokens, 1);
	assert_int_equal(again.text.len, 0);
	kf_buf_release(&again.text);
	/* or another of several, beside that which the text has for itself */
	const int32_t ids[] = { again.end + 1, again.end };
	const kf_decode_opts ending = { .top_p = 1, .batch_tokens = 64, .cache_bytes = 1 << 30, .end = ids, .n_end = 2 };

	again = (kf_decoding){ .prompt = prompt[k], .n = g[k].n, .most = 5, .end = -1 };
	assert_int_equal(kf_decode(r.m, words, &ending, &again, 1, NULL, NULL, NULL), KF_OK);
	assert_int_equal(again.ended, KF_ENDED_TOKEN);
	assert_int_equal(again.tokens, 1);
	kf_buf_release(&again.text);
	again = (kf_decoding){ .prompt = prompt[k], .n = g[k].n, .most = 1 << 20, .end = -1 };
	assert_int_equal(kf_decode(r.m, words, &o, &again, 1, NULL, NULL, NULL), KF_EINVAL);
	release_texts(g);
	tiny_close(&r);
}

static int drawn(const float *z, int V, double temperature, double top_p, double u)
{
	float copy[8];
	kf_weighed scratch[8];

	memcpy(copy, z, (size_t)V * sizeof *z);
	return kf_sample(copy, V, temperature, top_p, u, scratch);
}

/* How often tokens come, against their probabilities. */
static void frequencies(void **state)
{
	const float z[] = { 1, 0, 2, -3, 1, 0.5f };
	enum { V = 6, N = 200000 };
	static const double temperature[] = { 1, 0.5, 2, 1, 1 }, top_p[] = { 1, 1, 1, 0.8, 0.3 };
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 5);
	for (int c = 0; c < 5; c++) {
		double p[V], sum = 0, part = 0;
		int count[V] = { 0 };
		bool kept[V] = { false };

		for (int i = 0; i < V; i++) sum += p[i] = exp(z[i] / temperature[c]);
		/* by hand: the likeliest first, between equals the lower, until their sum reaches top_p */
		while (part < top_p[c] * sum * (1 - 1e-12)) {
			int best = -1;

			for (int i = 0; i < V; i++)
				if (!kept[i] && (best < 0 || p[i] > p[best])) best = i;
			kept[best] = true;
			part += p[best];
		}
		for (int i = 0; i < N; i++) count[drawn(z, V, temperature[c], top_p[c], kf_rng_real(&rng))]++;
		for (int i = 0; i < V; i++) {
			double want = kept[i] ? p[i] / part : 0, sigma = sqrt(want * (1 - want) / N);

			assert_true(fabs((double)count[i] / N - want) <= 5 * sigma);
		}
	}
	assert_int_equal(drawn(z, V, 1, 1, 0), 0);
	assert_int_equal(drawn(z, V, 1, 1, 0.9999999999999999), V - 1);
	assert_int_equal(drawn((const float[]){ 1, 2, -INFINITY }, 3, 1, 1, 0.9999999999999999), 1);
	assert_int_equal(drawn((const float[]){ 1, NAN, 2 }, 3, 1, 0.5, 0.5), -1);
	assert_int_equal(drawn((const float[]){ 1, INFINITY, 2 }, 3, 1, 0.5, 0.5), -1);
}

/* Endings of groups that begin alike, and of lone sequences, against whole runs, in batches of any size. */
static void endings(void **state)
{
	char path[TINY_MAX][256];
	int n = tiny_models(path);

	(void)state;
	for (int i = 0; i < n; i++) {
		enum { N = 9 };
		static const int group[N] = { 0, 0, 0, 0, 1, 2, 2, 3, 3 }, len[N] = { 14, 11, 20, 14, 25, 6, 9, 4, 4 },
			from[N] = { 10, 10, 10, 9, 20, 1, 1, 3, 2 }, sizes[] = { SIZES };
		int32_t tokens[N][LONGEST];
		kf_ending e[N];
		double want[N];
		bool first[N];
		tiny_rig r, cpu;
		kf_rng rng;

		tiny_open(&r, path[i], &OPS, 2);
		tiny_open(&cpu, path[i], &kf_ops_cpu, 2);
		kf_rng_seed(&rng, 11);
		for (int s = 0; s < N; s++)
			for (int k = 0; k < len[s]; k++)
				tokens[s][k] = s && group[s] == group[s - 1] && k < from[s] - (s == 3) ? tokens[s - 1][k] :
					(int32_t)kf_rng_below(&rng, (uint64_t)kf_model_arch(r.m)->V);
		for (int s = 0; s < N; s++) {
			const int32_t offset[] = { 0, len[s] - 1 };
			const kf_batch b = { .T = len[s] - 1, .S = 1, .tokens = tokens[s], .offset = offset };
			const kf_score_query q = { .k = 1, .labels = tokens[s] + 1 };
			int32_t top[LONGEST];
			float ce[LONGEST], lp[LONGEST];
			kf_score out = { .ce = ce, .top_ids = top, .top_lp = lp };

			assert_int_equal(kf_model_score(cpu.m, &b, &q, &out, NULL), KF_OK);
			want[s] = 0;
			first[s] = true;
			for (int k = from[s]; k < len[s]; k++) {
				want[s] += (double)ce[k - 1];
				first[s] = first[s] && top[k - 1] == tokens[s][k];
			}
		}
		for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++) {
			const int size = sizes[z];

			for (int s = 0; s < N; s++) e[s] = (kf_ending){ .token = tokens[s], .n = len[s], .from = from[s], .group = group[s] };
			assert_int_equal(kf_endings_score(r.m, size, e, N, NULL, NULL, NULL), KF_OK);
			for (int s = 0; s < N; s++)
				if (!(fabs(e[s].nats - want[s]) <= 1e-3 * (1 + want[s] / 100)) || e[s].first_choice != first[s])
					fail_msg("%s, batches of %d: ending %d: %g nats, not %g", path[i], size, s, e[s].nats, want[s]);
		}
		tiny_close(&cpu);
		tiny_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greedy), cmocka_unit_test(whole_sequences_only), cmocka_unit_test(sampled), cmocka_unit_test(stops), cmocka_unit_test(frequencies), cmocka_unit_test(endings),
	};
	return cmocka_run_group_tests_name("generate", tests, set_up, tear_down);
}
