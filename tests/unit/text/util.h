/* What the tests of tokenizers share. */
#ifndef KF_TEST_TEXT_UTIL_H
#define KF_TEST_TEXT_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/rng.h"
#include "common/text/internal.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define FIXTURES "tests/parity/tokenizers/"

static inline kf_tokenizer *open_fixture(const char *name)
{
	char dir[256];
	kf_tokenizer *t;
	kf_err err;

	snprintf(dir, sizeof dir, FIXTURES "%s", name);
	if (kf_tokenizer_open_dir(dir, &t, &err) != KF_OK)
		fail_msg("%s", err.text);
	return t;
}

static inline void expect(const kf_tokenizer *t, const char *text, size_t n, bool specials,
	const int32_t *ids, const uint32_t *start, uint32_t n_ids)
{
	kf_arena a;
	kf_encoding e;
	kf_err err;

	kf_arena_init(&a);
	assert_int_equal(kf_tokenizer_encode(t, (const uint8_t *)text, n, specials, &a, &e, &err), KF_OK);
	assert_int_equal(e.n, n_ids);
	if (n_ids)
		assert_memory_equal(e.ids, ids, n_ids * sizeof *ids);
	assert_memory_equal(e.start, start, (n_ids + 1) * sizeof *start);
	kf_arena_release(&a);
}
#define IDS(...) (const int32_t[]){ __VA_ARGS__ }
#define AT(...) (const uint32_t[]){ __VA_ARGS__ }

/* Text of the kinds that trip tokenizers; returns its length (at most max). */
static inline size_t random_text(kf_rng *r, uint8_t *out, size_t max)
{
	static const char *const words[] = { "the", " ", "  ", "\n", "\r\n", "'s", "'LL", "12", "7", "!", "...", "\xc3\xa9", "e\xcc\x81",
		"\xe4\xb8\xad", "\xf0\x9f\x91\x8d", " a", "\t", "_", "#", "\xe2\x96\x81", "\xc2\xa0", "\xe3\x80\x80", "total", "st", "\xe1\x84\x92" };
	size_t n = 0;
	int kind = (int)kf_rng_below(r, 3);
	for (uint64_t k = kf_rng_below(r, 40) + 1; k--;) {
		if (kind == 2 && kf_rng_below(r, 4) == 0) {
			uint32_t c = (uint32_t)kf_rng_below(r, kf_rng_below(r, 2) ? 0x3000 : 0x32000);
			if (c >= 0xd800 && c < 0xe000)
				c -= 0x1000;
			if (n + 4 > max)
				break;
			n += kf_utf8_put(out + n, c);
		} else if (kind == 1 && kf_rng_below(r, 3)) {
			if (n == max)
				break;
			out[n++] = (uint8_t)" \n\tabcdeABC123.,'"[kf_rng_below(r, 17)];
		} else {
			const char *w = words[kf_rng_below(r, LEN(words))];
			if (n + strlen(w) > max)
				break;
			memcpy(out + n, w, strlen(w));
			n += strlen(w);
		}
	}
	return n;
}

#endif
