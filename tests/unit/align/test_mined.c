/* Maps by edit distance over whole vocabularies: FuseLLM's definition written out, on the vocabularies of tests/models and on hostile
 * ones. (tests/cli/maps.sh compares this and the other maps with the published code.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "align/mined.h"
#include "align/vocab.h"
#include "common/base/progress.h"
#include "common/base/rng.h"

static void ok(kf_status rc, const kf_err *err)
{
	if (rc != KF_OK) fail_msg("%s", err->text);
}

/* Code points of a NUL-terminated string, with every `from` in it written as `to`. Well-formed UTF-8 only. */
static uint32_t points(const char *s, const char *from, const char *to, uint32_t *out)
{
	char swapped[8192];
	size_t n = 0, skip = strlen(from);
	uint32_t len = 0;

	for (; *s; n = strlen(swapped)) {
		bool hit = strncmp(s, from, skip) == 0;

		snprintf(swapped + n, sizeof swapped - n, "%.*s", hit ? (int)strlen(to) : 1, hit ? to : s);
		s += hit ? skip : 1;
	}
	swapped[n] = 0;
	for (const unsigned char *p = (const unsigned char *)swapped; *p; len++) {
		int more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0xc0 ? 1 : 0;

		out[len] = *p++ & (more ? 0x3f >> more : 0x7f);
		for (; more > 0; more--) out[len] = out[len] << 6 | (*p++ & 0x3f);
	}
	return len;
}

static uint32_t distance(const uint32_t *a, uint32_t na, const uint32_t *b, uint32_t nb)
{
	uint32_t d[512], diag, up;

	for (uint32_t j = 0; j <= nb; j++) d[j] = j;
	for (uint32_t i = 1; i <= na; i++) {
		diag = d[0];
		d[0] = i;
		for (uint32_t j = 1; j <= nb; j++) {
			up = d[j];
			d[j] = diag + (a[i - 1] != b[j - 1]);
			if (up + 1 < d[j]) d[j] = up + 1;
			if (d[j - 1] + 1 < d[j]) d[j] = d[j - 1] + 1;
			diag = up;
		}
	}
	return d[nb];
}

static void check(const kf_tokenizer *s, const kf_tokenizer *t, kf_pool *pool)
{
	align_mined m;
	uint32_t a[512], b[512];
	kf_err err;

	ok(align_mined_init(&m, s, t, pool, KF_PROGRESS_NONE, &err), &err);
	assert_int_equal(m.a.n, kf_tokenizer_size(s));
	for (int32_t i = 0; i < m.a.n; i++) {
		uint32_t na = points(kf_tokenizer_piece(s, i), align_marker(s), align_marker(t), a), best = UINT32_MAX;
		int32_t at = -1;

		for (int32_t j = 0; na && j < kf_tokenizer_size(t); j++) {
			uint32_t nb = points(kf_tokenizer_piece(t, j), "\x01", "", b), d = nb ? distance(a, na, b, nb) : UINT32_MAX;

			if (d >= best) continue;
			best = d;
			at = j;
		}
		if (m.near[i].at != at || m.near[i].distance != best)
			fail_msg("token %d %s: %d at %u, not %d at %u", (int)i, kf_tokenizer_piece(s, i), (int)m.near[i].at, m.near[i].distance,
				(int)at, best);
	}
	align_mined_release(&m);
}

static void whole_vocabularies(void **state)
{
	static const char *const dir[] = { "tests/models/llama-tiny", "tests/models/gemma3-tiny", "tests/models/qwen2-tiny" };
	kf_tokenizer *t[3];
	kf_pool *pool;
	kf_err err;

	(void)state;
	ok(kf_pool_new(2, &pool, &err), &err);
	for (int i = 0; i < 3; i++) ok(kf_tokenizer_open_dir(dir[i], &t[i], &err), &err);
	for (int i = 0; i < 3; i++) check(t[i], t[(i + 1) % 3], i == 1 ? pool : NULL);
	for (int i = 0; i < 3; i++) kf_tokenizer_free(t[i]);
	kf_pool_free(pool);
}

/* A SentencePiece vocabulary of pieces as given; the first three are unknown, BOS, EOS. */
static kf_tokenizer *vocabulary(const char *const *piece, int n)
{
	float score[700] = { 0 };
	int32_t type[700];
	kf_tokenizer *t;
	kf_err err;

	for (int i = 0; i < n; i++) {
		score[i] = (float)-i;
		type[i] = i == 0 ? KF_TT_UNKNOWN : i < 3 ? KF_TT_CONTROL : KF_TT_NORMAL;
	}
	kf_vocab_spec spec = { .model = "llama", .n = n, .pieces = piece, .scores = score, .types = type, .bos = 1, .eos = 2, .unk = 0,
		.pad = -1, .add_bos = true };
	ok(kf_tokenizer_from_spec(&spec, &t, &err), &err);
	return t;
}

/* Random strings of every script, of spaces and of one letter; lengths beyond a machine word. */
static void hostile(void **state)
{
	static const char *const letter[] = { "a", "b", "\xe2\x96\x81", "\xc4\xa0", "\xc3\xa9", "\xe6\x97\xa5", "\xf0\x9f\x99\x82", "<", "\n", " " };
	static char text[2][300][420];
	const char *list[2][300];
	kf_tokenizer *t[2];
	kf_rng rng;

	(void)state;
	kf_rng_seed(&rng, 77);
	for (int side = 0; side < 2; side++) {
		for (int i = 0; i < 300; i++) {
			uint64_t len = 1 + kf_rng_below(&rng, i % 10 ? 12 : 100), kinds = 1 + kf_rng_below(&rng, 10);
			size_t n;

			/* no piece twice: a letter of its own number in front of some */
			n = (size_t)snprintf(text[side][i], sizeof text[side][i], i < 3 ? "<%d>" : "%d", i);
			for (uint64_t k = 0; i >= 3 && k < len; k++)
				n += (size_t)snprintf(text[side][i] + n, sizeof text[side][i] - n, "%s", letter[kf_rng_below(&rng, kinds)]);
			list[side][i] = text[side][i];
		}
		t[side] = vocabulary(list[side], 300);
	}
	check(t[0], t[1], NULL);
	check(t[1], t[1], NULL);
	kf_tokenizer_free(t[0]);
	kf_tokenizer_free(t[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_vocabularies),
		cmocka_unit_test(hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
