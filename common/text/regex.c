/* Regular expressions as the authors of tokenizers meant them.
 *
 * tokenizer.json's patterns are Oniguruma's, with Unicode 16. PCRE2 10.42 knows Unicode 14, and some
 * escapes mean other things to it. What differs is written out here: tests/parity/tokenizers compares
 * every class over all code points with Hugging Face's tokenizers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/text/internal.h"

typedef struct { uint32_t lo, hi; } range;

/* Code points that Unicode 15, 15.1 and 16 put into a general category (or script). */
static const range new_L[] = {
	{ 0x1c89, 0x1c8a }, { 0xa7cb, 0xa7cd }, { 0xa7da, 0xa7dc }, { 0x105c0, 0x105f3 }, { 0x10d4a, 0x10d65 },
	{ 0x10d6f, 0x10d85 }, { 0x10ec2, 0x10ec4 }, { 0x1123f, 0x11240 }, { 0x11380, 0x11389 }, { 0x1138b,
	0x1138b }, { 0x1138e, 0x1138e }, { 0x11390, 0x113b5 }, { 0x113b7, 0x113b7 }, { 0x113d1, 0x113d1 }, {
	0x113d3, 0x113d3 }, { 0x11bc0, 0x11be0 }, { 0x11f02, 0x11f02 }, { 0x11f04, 0x11f10 }, { 0x11f12, 0x11f33
	}, { 0x1342f, 0x1342f }, { 0x13441, 0x13446 }, { 0x13460, 0x143fa }, { 0x16100, 0x1611d }, { 0x16d40,
	0x16d6c }, { 0x18cff, 0x18cff }, { 0x1b132, 0x1b132 }, { 0x1b155, 0x1b155 }, { 0x1df25, 0x1df2a }, {
	0x1e030, 0x1e06d }, { 0x1e4d0, 0x1e4eb }, { 0x1e5d0, 0x1e5ed }, { 0x1e5f0, 0x1e5f0 }, { 0x2b739, 0x2b739
	}, { 0x2ebf0, 0x2ee5d }, { 0x31350, 0x323af }
};
static const range new_N[] = {
	{ 0x10d40, 0x10d49 }, { 0x116d0, 0x116e3 }, { 0x11bf0, 0x11bf9 }, { 0x11f50, 0x11f59 }, { 0x16130,
	0x16139 }, { 0x16d70, 0x16d79 }, { 0x1ccf0, 0x1ccf9 }, { 0x1d2c0, 0x1d2d3 }, { 0x1e4f0, 0x1e4f9 }, {
	0x1e5f1, 0x1e5fa }
};
static const range new_Nd[] = {
	{ 0x10d40, 0x10d49 }, { 0x116d0, 0x116e3 }, { 0x11bf0, 0x11bf9 }, { 0x11f50, 0x11f59 }, { 0x16130,
	0x16139 }, { 0x16d70, 0x16d79 }, { 0x1ccf0, 0x1ccf9 }, { 0x1e4f0, 0x1e4f9 }, { 0x1e5f1, 0x1e5fa }
};
static const range new_M[] = {
	{ 0x897, 0x897 }, { 0xcf3, 0xcf3 }, { 0xece, 0xece }, { 0x10d69, 0x10d6d }, { 0x10efc, 0x10eff }, {
	0x11241, 0x11241 }, { 0x113b8, 0x113c0 }, { 0x113c2, 0x113c2 }, { 0x113c5, 0x113c5 }, { 0x113c7, 0x113ca
	}, { 0x113cc, 0x113d0 }, { 0x113d2, 0x113d2 }, { 0x113e1, 0x113e2 }, { 0x11f00, 0x11f01 }, { 0x11f03,
	0x11f03 }, { 0x11f34, 0x11f3a }, { 0x11f3e, 0x11f42 }, { 0x11f5a, 0x11f5a }, { 0x13440, 0x13440 }, {
	0x13447, 0x13455 }, { 0x1611e, 0x1612f }, { 0x1e08f, 0x1e08f }, { 0x1e4ec, 0x1e4ef }, { 0x1e5ee, 0x1e5ef
	}
};
static const range new_P[] = {
	{ 0x1b4e, 0x1b4f }, { 0x1b7f, 0x1b7f }, { 0x10d6e, 0x10d6e }, { 0x113d4, 0x113d5 }, { 0x113d7, 0x113d8
	}, { 0x11b00, 0x11b09 }, { 0x11be1, 0x11be1 }, { 0x11f43, 0x11f4f }, { 0x16d6d, 0x16d6f }, { 0x1e5ff,
	0x1e5ff }
};
static const range new_S[] = {
	{ 0x2427, 0x2429 }, { 0x2ffc, 0x2fff }, { 0x31e4, 0x31e5 }, { 0x31ef, 0x31ef }, { 0x10d8e, 0x10d8f }, {
	0x1cc00, 0x1ccef }, { 0x1cd00, 0x1ceb3 }, { 0x1f6dc, 0x1f6dc }, { 0x1f774, 0x1f776 }, { 0x1f77b, 0x1f77f
	}, { 0x1f7d9, 0x1f7d9 }, { 0x1f8b2, 0x1f8bb }, { 0x1f8c0, 0x1f8c1 }, { 0x1fa75, 0x1fa77 }, { 0x1fa87,
	0x1fa89 }, { 0x1fa8f, 0x1fa8f }, { 0x1faad, 0x1faaf }, { 0x1fabb, 0x1fabf }, { 0x1fac6, 0x1fac6 }, {
	0x1face, 0x1facf }, { 0x1fada, 0x1fadc }, { 0x1fadf, 0x1fadf }, { 0x1fae8, 0x1fae9 }, { 0x1faf7, 0x1faf8
	}, { 0x1fbcb, 0x1fbef }
};
static const range new_Lu[] = {
	{ 0x1c89, 0x1c89 }, { 0xa7cb, 0xa7cc }, { 0xa7da, 0xa7da }, { 0xa7dc, 0xa7dc }, { 0x10d50, 0x10d65 }
};
static const range new_Ll[] = {
	{ 0x1c8a, 0x1c8a }, { 0xa7cd, 0xa7cd }, { 0xa7db, 0xa7db }, { 0x10d70, 0x10d85 }, { 0x1df25, 0x1df2a }
};
static const range new_Lm[] = {
	{ 0x10d4e, 0x10d4e }, { 0x10d6f, 0x10d6f }, { 0x16d40, 0x16d42 }, { 0x16d6b, 0x16d6c }, { 0x1e030,
	0x1e06d }, { 0x1e4eb, 0x1e4eb }
};
static const range new_Lo[] = {
	{ 0x105c0, 0x105f3 }, { 0x10d4a, 0x10d4d }, { 0x10d4f, 0x10d4f }, { 0x10ec2, 0x10ec4 }, { 0x1123f,
	0x11240 }, { 0x11380, 0x11389 }, { 0x1138b, 0x1138b }, { 0x1138e, 0x1138e }, { 0x11390, 0x113b5 }, {
	0x113b7, 0x113b7 }, { 0x113d1, 0x113d1 }, { 0x113d3, 0x113d3 }, { 0x11bc0, 0x11be0 }, { 0x11f02, 0x11f02
	}, { 0x11f04, 0x11f10 }, { 0x11f12, 0x11f33 }, { 0x1342f, 0x1342f }, { 0x13441, 0x13446 }, { 0x13460,
	0x143fa }, { 0x16100, 0x1611d }, { 0x16d43, 0x16d6a }, { 0x18cff, 0x18cff }, { 0x1b132, 0x1b132 }, {
	0x1b155, 0x1b155 }, { 0x1e4d0, 0x1e4ea }, { 0x1e5d0, 0x1e5ed }, { 0x1e5f0, 0x1e5f0 }, { 0x2b739, 0x2b739
	}, { 0x2ebf0, 0x2ee5d }, { 0x31350, 0x323af }
};
static const range new_Han[] = {
	{ 0x2b739, 0x2b739 }, { 0x2ebf0, 0x2ee5d }, { 0x31350, 0x323af }
};

#define SET(name) { #name, new_##name, sizeof new_##name / sizeof new_##name[0] }
static const struct { const char *name; const range *r; size_t n; } sets[] = {
	SET(L), SET(N), SET(Nd), SET(M), SET(P), SET(S), SET(Lu), SET(Ll), SET(Lm), SET(Lo), SET(Han)
};

bool kf_regex_newer(const char *category, size_t i, uint32_t *lo, uint32_t *hi)
{
	for (size_t k = 0; k < sizeof sets / sizeof sets[0]; k++) {
		if (strcmp(sets[k].name, category) != 0)
			continue;
		if (i >= sets[k].n)
			return false;
		*lo = sets[k].r[i].lo;
		*hi = sets[k].r[i].hi;
		return true;
	}
	return false;
}

/* Scripts: PCRE2 takes a bare name for Script_Extensions, Oniguruma for Script. */
static const char *const scripts[] = {
	"Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Arabic", "Hebrew", "Greek",
	"Cyrillic", "Latin", "Devanagari", "Bengali", "Tamil", "Telugu", "Georgian", "Armenian", "Ethiopic", "Tibetan"
};

/* Unicode's White_Space: PCRE2's \s takes U+180E too. */
#define WHITE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Oniguruma's \w has marks, and of the other numbers those in Latin-1. */
#define WORD "\\p{Alphabetic}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static void puts_to(kf_buf *out, const char *s) { kf_buf_put(out, s, strlen(s)); }

static void put_ranges(kf_buf *out, const range *r, size_t n)
{
	char s[40];
	for (size_t i = 0; i < n; i++) {
		snprintf(s, sizeof s, "\\x{%x}-\\x{%x}", (unsigned)r[i].lo, (unsigned)r[i].hi);
		puts_to(out, s);
	}
}

/* What stands inside a class for a property; false when the property is as PCRE2 has it. */
static bool property(kf_buf *out, const char *name, size_t n)
{
	bool script = false, found = false;
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
		script |= strlen(scripts[i]) == n && memcmp(scripts[i], name, n) == 0;
	for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
		if (strlen(sets[i].name) != n || memcmp(sets[i].name, name, n) != 0)
			continue;
		found = true;
		put_ranges(out, sets[i].r, sets[i].n);
	}
	if (!script && !found)
		return false;
	puts_to(out, script ? "\\p{sc:" : "\\p{");
	kf_buf_put(out, name, n);
	puts_to(out, "}");
	return true;
}

/* The set that an escape stands for, as it stands inside a class. */
static bool escape_set(kf_buf *out, char c)
{
	switch (c) {
	case 's': case 'S':
		puts_to(out, WHITE);
		return true;
	case 'w': case 'W':
		puts_to(out, WORD);
		property(out, "L", 1);
		property(out, "M", 1);
		property(out, "Nd", 2);
		return true;
	case 'd': case 'D':
		property(out, "Nd", 2);
		return true;
	case 'h': case 'H': /* a hexadecimal digit to Oniguruma */
		puts_to(out, "0-9a-fA-F");
		return true;
	default:
		return false;
	}
}

/* {n}, {n,}, {n,m}, {,m} at p: where it ends, NULL where it is none. *most: -1 for any. */
static const char *interval(const char *p, long *least, long *most)
{
	char *end;

	if (*p++ != '{' || (*p != ',' && (*p < '0' || *p > '9')))
		return NULL;
	*least = strtol(p, &end, 10);
	*most = *least;
	p = end;
	if (*p == ',') {
		*most = strtol(++p, &end, 10);
		if (end == p)
			*most = -1;
		p = end;
	}
	return *p == '}' ? p : NULL;
}

kf_status kf_regex_translate(const char *re, kf_buf *out, kf_err *err)
{
	bool class = false, braces = false;   /* after an escape that is followed by a name in braces */
	kf_buf set = { 0 };
	kf_status rc = KF_OK;

	for (const char *p = re; *p; p++) {
		if (*p == '\\' && p[1]) {
			char c = *++p;
			bool neg = c && strchr("SWHDP", c), known;
			const char *end = (c == 'p' || c == 'P') && p[1] == '{' ? strchr(p, '}') : NULL;
			kf_buf_clear(&set);
			if (end && p[2] == '^') {
				neg = !neg;
				known = property(&set, p + 3, (size_t)(end - p - 3));
			} else {
				known = end ? property(&set, p + 2, (size_t)(end - p - 2)) : escape_set(&set, c);
			}
			if (!known) {
				kf_buf_put(out, (char[]){ '\\', c }, 2);
				braces = c && strchr("pPxogkN", c);
				continue;
			}
			if (class && neg) {
				rc = kf_fail(err, KF_EUNSUPPORTED,
					"the pre-tokenizer pattern \"%.300s\" has \\%c inside a character class, which kfuse does not read",
					re, c);
				goto out;
			}
			if (!class)
				puts_to(out, neg ? "[^" : "[");
			kf_buf_put(out, set.data, set.len);
			if (!class)
				puts_to(out, "]");
			if (end)
				p = end;
			continue;
		}
		long least, most;
		const char *end = class || braces ? NULL : interval(p, &least, &most);
		braces = false;
		if (end) {
			/* {n,m}+ is to Oniguruma the repetition repeated, not one that gives nothing back; {,m} begins at 0 */
			const bool again = end[1] == '+';
			char text[64];

			if (again && (least > 1 || (least == 0 && most == 0))) {
				rc = kf_fail(err, KF_EUNSUPPORTED, "the pre-tokenizer pattern \"%.300s\" repeats a repetition, \"%.*s\", which kfuse does not read",
					re, (int)(end + 2 - p), p);
				goto out;
			}
			if (again || most < 0)
				snprintf(text, sizeof text, "{%ld,}", least);
			else
				snprintf(text, sizeof text, "{%ld,%ld}", least, most);
			puts_to(out, text);
			p = end + again;
			continue;
		}
		if (class && ((*p == '&' && p[1] == '&') || *p == '[')) {
			rc = kf_fail(err, KF_EUNSUPPORTED,
				"the pre-tokenizer pattern \"%.300s\" has a class within a character class, which kfuse does not read", re);
			goto out;
		}
		if (*p == '[') {
			class = true;
			kf_buf_put(out, p, 1);
			if (p[1] == '^')
				kf_buf_put(out, ++p, 1);
			if (p[1] == ']') {
				puts_to(out, "\\]");
				p++;
			}
			continue;
		}
		if (*p == ']')
			class = false;
		kf_buf_put(out, p, 1);
	}
	rc = set.failed ? kf_fail(err, KF_ENOMEM, "no memory for a pre-tokenizer pattern") : kf_buf_check(out, err);
out:
	kf_buf_release(&set);
	return rc;
}
