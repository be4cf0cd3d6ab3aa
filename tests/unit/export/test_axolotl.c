/* Axolotl's form, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export/export.h"

static void is(const char *want, const kf_logits_rec *l, const kf_dist_rec *d, int32_t bos, bool renormalize)
{
	char *got = NULL;
	size_t n;
	FILE *f = open_memstream(&got, &n);

	assert_non_null(f);
	if (l) kf_axolotl_logits(f, l, bos, renormalize);
	else kf_axolotl_dist(f, d, bos, renormalize);
	fclose(f);
	assert_string_equal(got, want);
	free(got);
}

/* Tokens 7 8 after BOS 1. Row 0 is about 7, row 1 about 8, the last about nothing. A candidate without probability is none;
 * .5 and .25 renormalised are 2/3 and 1/3. */
static void logits(void **state)
{
	static const int32_t tokens[] = { 7, 8 }, ids[] = { 7, 3, 8, 0, 5, 6 };
	static const uint32_t start[] = { 0, 1, 2 };
	const float lp[] = { logf(.5f), logf(.25f), 0, -INFINITY, -1, -2 }, ce[] = { logf(2), 0 };
	kf_logits_rec r = { .bos = true, .n = 2, .k = 2, .tokens = tokens, .start = start, .ce = ce, .top_ids = ids, .top_lp = lp };

	(void)state;
	is("{\"input_ids\":[1,7,8],\"attention_mask\":[1,1,1],\"labels\":[-100,7,8],\"target_token_ids\":[[7,3],[8],[0]],"
		"\"target_logprobs\":[[-0.6931472,-1.386294],[0.0],[-1e9]],\"target_mask\":[[1,1],[1],[0]]}\n", &r, NULL, 1, false);
	is("{\"input_ids\":[1,7,8],\"attention_mask\":[1,1,1],\"labels\":[-100,7,8],\"target_token_ids\":[[7,3],[8],[0]],"
		"\"target_logprobs\":[[-0.4054651,-1.098612],[0.0],[-1e9]],\"target_mask\":[[1,1],[1],[0]]}\n", &r, NULL, 1, true);
	/* without BOS the first token is not predicted: row 0 is about 8 */
	r.bos = false;
	is("{\"input_ids\":[7,8],\"attention_mask\":[1,1],\"labels\":[-100,8],\"target_token_ids\":[[8],[0]],"
		"\"target_logprobs\":[[0.0],[-1e9]],\"target_mask\":[[1],[0]]}\n", &r, NULL, -1, false);
	/* no tokens and no BOS: nothing to train on */
	r.n = 0;
	is("", &r, NULL, -1, false);
}

/* Weight 0 and context are not taught. */
static void fused(void **state)
{
	static const int32_t tokens[] = { 7, 8, 9 }, ids[] = { 7, 8, 9 };
	static const uint32_t start[] = { 0, 1, 2, 3 }, off[] = { 0, 1, 2, 3, 3 };
	static const uint8_t context[] = { 0, 1, 0, 1 };
	const float lp[] = { -1, -1, -1 }, weight[] = { 0, 1, .5f, 1 }, tail[] = { .6f, .6f, .6f, NAN }, ce[] = { 1, 1, 1 };
	kf_dist_rec r = { .bos = true, .n = 3, .tokens = tokens, .start = start, .ce = ce, .off = off, .ids = ids, .lp = lp, .tail = tail,
		.weight = weight, .context = context };

	(void)state;
	is("{\"input_ids\":[1,7,8,9],\"attention_mask\":[1,1,1,1],\"labels\":[-100,7,-100,9],\"target_token_ids\":[[0],[0],[9],[0]],"
		"\"target_logprobs\":[[-1e9],[-1e9],[-1.0],[-1e9]],\"target_mask\":[[0],[0],[1],[0]]}\n", NULL, &r, 1, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(logits), cmocka_unit_test(fused) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
