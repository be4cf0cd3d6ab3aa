/* Pre-tokenizers: the rules that cut text into words before merging. A pre-tokenizer is a list
 * of steps, each a regular expression applied to every piece the step before left, as in
 * Hugging Face's tokenizers; what has its own name there (Digits, ByteLevel, ...) is an expression here.
 * A step after a ByteLevel, as Falcon has them, sees the characters that bytes stand for: é is two there, and a space is a letter. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "common/text/internal.h"

#define RE_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define RE_QWEN2 \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" \
	"|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define RE_LLAMA3 \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" \
	"|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Rust's char::is_numeric is of Unicode 17 already. */
#define RE_DIGIT "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]"
/* Rust's \w, which is not Oniguruma's. */
#define RUST_WORD "\\p{Alphabetic}\\p{L}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"
#define RE_WORD "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+"

/* Hugging Face's is_punctuation is of Unicode 8. \pP is not translated, so these are what Unicode 14 added. */
#define RE_PUNCT "(?![" \
	"\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e4f}" \
	"\\x{2e52}-\\x{2e5d}\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}" \
	"\\x{1145a}-\\x{1145b}\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}" \
	"\\x{119e2}\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11c41}-\\x{11c45}" \
	"\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{16e97}-\\x{16e9a}" \
	"\\x{16fe2}\\x{1e95e}-\\x{1e95f}" \
	"])[!-/:-@\\[-`{-~\\pP\\x{166d}\\x{111c9}]"

/* GGUF's tokenizer.ggml.pre. digits: single digits are cut off first. */
static const struct { const char *name, *re; bool digits, nfc, ignore_merges; const char *hf_class; } named[] = {
	{ "gpt-2", RE_GPT2, false, false, false, "GPT2Tokenizer" },
	{ "gpt2", RE_GPT2, false, false, false, "GPT2Tokenizer" },
	{ "phi-2", RE_GPT2, false, false, false, "CodeGenTokenizer" },
	{ "jais", RE_GPT2, false, false, false, NULL },
	{ "mpt", RE_GPT2, false, true, false, "GPTNeoXTokenizer" },
	{ "olmo", RE_GPT2, false, true, false, "GPTNeoXTokenizer" },
	{ "smollm", RE_GPT2, true, false, false, "GPT2Tokenizer" },
	{ "starcoder", RE_GPT2, true, false, false, "GPT2Tokenizer" },
	{ "refact", RE_GPT2, true, false, false, "GPT2Tokenizer" },
	{ "codeshell", RE_GPT2, true, false, false, NULL },
	{ "qwen2", RE_QWEN2, false, true, false, "Qwen2Tokenizer" },
	{ "deepseek-r1-qwen", RE_QWEN2, false, true, false, "Qwen2Tokenizer" },
	{ "megrez", RE_QWEN2, false, true, false, NULL },
	{ "llama-bpe", RE_LLAMA3, false, false, true, NULL },
	{ "llama3", RE_LLAMA3, false, false, true, NULL },
	{ "llama-v3", RE_LLAMA3, false, false, true, NULL },
	{ "smaug-bpe", RE_LLAMA3, false, false, true, NULL },
	{ "dbrx", RE_LLAMA3, false, false, false, NULL },
};

/* ---- making one ---------------------------------------------------------------------- */

static kf_status compile(const char *pattern, void **out, kf_err *err)
{
	kf_buf re = { 0 };
	int code;
	PCRE2_SIZE at;
	kf_status rc = kf_regex_translate(pattern, &re, err);

	if (rc != KF_OK)
		goto out;
	pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
	if (cc)
		pcre2_set_parens_nest_limit(cc, 50);
	pcre2_code *c = pcre2_compile(re.data, re.len,
		PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE, &code, &at, cc);
	pcre2_compile_context_free(cc);
	if (!c) {
		PCRE2_UCHAR why[120];
		pcre2_get_error_message(code, why, sizeof why);
		rc = kf_fail(err, KF_EDATA, "the pre-tokenizer pattern \"%.300s\" does not compile: %s", pattern, (char *)why);
		goto out;
	}
	(void)pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* without it matching is slower, not different */
	*out = c;
out:
	kf_buf_release(&re);
	return rc;
}

static kf_status add(kf_pretok *p, const char *pattern, kf_split how, bool invert, kf_fast fast, kf_err *err)
{
	void *code = NULL;
	kf_status rc;

	if (p->n == KF_STEPS_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "the pre-tokenizer has more than %d steps", KF_STEPS_MAX);
	if (strlen(pattern) > 8192)
		return kf_fail(err, KF_EDATA, "a pre-tokenizer pattern of %zu bytes is too long", strlen(pattern));
	if (fast && !p->classes && !(p->classes = kf_classes_new()))
		return kf_fail(err, KF_ENOMEM, "no memory for character classes");
	if (!fast && (rc = compile(pattern, &code, err)) != KF_OK)
		return rc;
	kf_pretok_step *s = &p->step[p->n++];
	*s = (kf_pretok_step){ kf_strdup(pattern), how, invert, p->chars, fast, code };
	return s->pattern ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a pre-tokenizer pattern");
}

kf_status kf_pretok_add(kf_pretok *p, const char *pattern, kf_split how, bool invert, kf_err *err)
{
	static const struct { const char *re; kf_fast fast; } known[] = {
		{ RE_GPT2, KF_FAST_GPT2 }, { RE_QWEN2, KF_FAST_QWEN2 }, { RE_LLAMA3, KF_FAST_LLAMA3 }, { RE_DIGIT, KF_FAST_DIGIT }
	};
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcmp(pattern, known[i].re) == 0)
			return add(p, pattern, how, invert, known[i].fast, err);
	return add(p, pattern, how, invert, KF_FAST_NONE, err);
}

kf_status kf_pretok_add_regex(kf_pretok *p, const char *pattern, kf_split how, bool invert, kf_err *err)
{
	return add(p, pattern, how, invert, KF_FAST_NONE, err);
}

kf_status kf_pretok_named(kf_pretok *p, const char *name, kf_err *err)
{
	for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
		if (strcmp(named[i].name, name) != 0)
			continue;
		kf_status rc = KF_OK;
		p->nfc = named[i].nfc;
		p->ignore_merges = named[i].ignore_merges;
		p->hf_class = named[i].hf_class;
		if (named[i].digits)
			rc = kf_pretok_add(p, RE_DIGIT, KF_SPLIT_ISOLATED, false, err);
		return rc ? rc : kf_pretok_add(p, named[i].re, KF_SPLIT_ISOLATED, false, err);
	}
	return kf_fail(err, KF_EUNSUPPORTED, "the pre-tokenizer \"%s\" (tokenizer.ggml.pre) is not one that kfuse knows", name);
}

void kf_pretok_release(kf_pretok *p)
{
	for (int i = 0; i < p->n; i++) {
		kf_free(p->step[i].pattern);
		pcre2_code_free(p->step[i].code);
	}
	kf_free(p->classes);
	memset(p, 0, sizeof *p);
}

/* ---- tokenizer.json ------------------------------------------------------------------- */

static bool flag(const json_t *j, const char *name, bool otherwise)
{
	const json_t *v = json_object_get(j, name);
	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* A literal as an expression. */
static kf_status quote(const char *s, kf_buf *out, kf_err *err)
{
	for (; *s; s++) {
		if (strchr("\\^$.[]|()?*+{}-#&", *s))
			kf_buf_put(out, "\\", 1);
		kf_buf_put(out, s, 1);
	}
	kf_buf_u8(out, 0);
	return kf_buf_check(out, err);
}

static const char *const ways[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };

/* NULL: the default. */
static kf_status behaviour(const char *name, kf_split *how, kf_err *err)
{
	*how = KF_SPLIT_ISOLATED;
	for (int i = 0; name && i < 5; i++)
		if (strcmp(name, ways[i]) == 0) {
			*how = (kf_split)i;
			return KF_OK;
		}
	return !name ? KF_OK
		: kf_fail(err, KF_EUNSUPPORTED, "the pre_tokenizer behavior \"%s\" is not one that kfuse knows", name);
}

static kf_status split_json(kf_pretok *p, const json_t *j, kf_err *err)
{
	const json_t *pat = json_object_get(j, "pattern");
	const char *re = json_string_value(json_object_get(pat, "Regex"));
	const char *lit = json_string_value(json_object_get(pat, "String"));
	kf_split how;
	kf_buf b = { 0 };
	kf_status rc;

	if (!re && !lit)
		return kf_fail(err, KF_EDATA, "a Split pre-tokenizer has neither a Regex nor a String pattern");
	if ((rc = behaviour(json_string_value(json_object_get(j, "behavior")), &how, err)) != KF_OK)
		return rc;
	if (lit)
		rc = quote(lit, &b, err);
	if (rc == KF_OK)
		rc = kf_pretok_add(p, lit ? (const char *)b.data : re, how, flag(j, "invert", false), err);
	kf_buf_release(&b);
	return rc;
}

static kf_status pretok_json(kf_pretok *p, const json_t *j, int depth, kf_err *err)
{
	const char *type = json_string_value(json_object_get(j, "type"));
	kf_split how;
	kf_status rc;

	if (!type || depth > 8)
		return kf_fail(err, KF_EDATA, "a pre_tokenizer of tokenizer.json %s", type ? "is nested too deep" : "has no type");
	if (strcmp(type, "Sequence") == 0) {
		const json_t *list = json_object_get(j, "pretokenizers"), *e;
		size_t i;
		if (!json_is_array(list))
			return kf_fail(err, KF_EDATA, "a Sequence pre_tokenizer has no list of pretokenizers");
		json_array_foreach((json_t *)list, i, e)
			if ((rc = pretok_json(p, e, depth + 1, err)) != KF_OK)
				return rc;
		return KF_OK;
	}
	if (strcmp(type, "ByteLevel") == 0) {
		if (p->chars)
			return kf_fail(err, KF_EUNSUPPORTED, "a second ByteLevel pre_tokenizer takes what the first made of bytes for text, which kfuse does not do");
		if (flag(j, "add_prefix_space", true)) {
			if (p->n)
				return kf_fail(err, KF_EUNSUPPORTED,
					"a ByteLevel pre_tokenizer adds a space after another step has cut the text, which kfuse does not do");
			p->prefix_space = true;
		}
		rc = flag(j, "use_regex", true) ? kf_pretok_add(p, RE_GPT2, KF_SPLIT_ISOLATED, false, err) : KF_OK;
		p->chars = true;
		return rc;
	}
	if (strcmp(type, "Split") == 0)
		return split_json(p, j, err);
	if (strcmp(type, "Digits") == 0)
		return kf_pretok_add(p, RE_DIGIT,
			flag(j, "individual_digits", false) ? KF_SPLIT_ISOLATED : KF_SPLIT_CONTIGUOUS, false, err);
	if (strcmp(type, "Whitespace") == 0)
		return kf_pretok_add(p, RE_WORD, KF_SPLIT_REMOVED, true, err);
	if (strcmp(type, "WhitespaceSplit") == 0)
		return kf_pretok_add(p, "\\s", KF_SPLIT_REMOVED, false, err);
	if (strcmp(type, "Punctuation") == 0) {
		if ((rc = behaviour(json_string_value(json_object_get(j, "behavior")), &how, err)) != KF_OK)
			return rc;
		return kf_pretok_add(p, RE_PUNCT, how, false, err);
	}
	return kf_fail(err, KF_EUNSUPPORTED, "the pre_tokenizer \"%s\" of tokenizer.json is not one that kfuse knows", type);
}

kf_status kf_pretok_json(kf_pretok *p, const json_t *j, kf_err *err)
{
	return !j || json_is_null(j) ? KF_OK : pretok_json(p, j, 0, err);
}

json_t *kf_pretok_to_json(const kf_pretok *p)
{
	json_t *list = json_array();
	int at = 0; /* of the steps, the first after the ByteLevel */

	while (at < p->n && !p->step[at].chars)
		at++;
	const bool gpt2 = at && strcmp(p->step[at - 1].pattern, RE_GPT2) == 0 && p->step[at - 1].how == KF_SPLIT_ISOLATED
		&& !p->step[at - 1].invert;
	for (int i = 0; i <= p->n; i++) {
		const kf_pretok_step *s = &p->step[i];
		if (i == at)
			json_array_append_new(list, json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel",
				"add_prefix_space", p->prefix_space, "trim_offsets", 1, "use_regex", gpt2));
		if (i == p->n || (gpt2 && i == at - 1))
			continue;
		if (strcmp(s->pattern, RE_DIGIT) == 0 && !s->invert
			&& (s->how == KF_SPLIT_ISOLATED || s->how == KF_SPLIT_CONTIGUOUS))
			json_array_append_new(list, json_pack("{s:s,s:b}", "type", "Digits", "individual_digits",
				s->how == KF_SPLIT_ISOLATED));
		else if (strcmp(s->pattern, RE_PUNCT) == 0 && !s->invert)
			json_array_append_new(list, json_pack("{s:s,s:s}", "type", "Punctuation", "behavior", ways[s->how]));
		else if (strcmp(s->pattern, RE_WORD) == 0 && s->invert && s->how == KF_SPLIT_REMOVED)
			json_array_append_new(list, json_pack("{s:s}", "type", "Whitespace"));
		else
			json_array_append_new(list, json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
				s->pattern, "behavior", ways[s->how], "invert", s->invert));
	}
	if (json_array_size(list) == 1) {
		json_t *only = json_incref(json_array_get(list, 0));
		json_decref(list);
		return only;
	}
	return json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", list);
}

/* ---- running one --------------------------------------------------------------------- */

kf_status kf_pretok_begin(const kf_pretok *p, kf_pretok_run *run, kf_err *err)
{
	memset(run, 0, sizeof *run);
	for (int i = 0; i < p->n; i++) {
		if (!p->step[i].code)
			continue;
		run->match[i] = pcre2_match_data_create(1, NULL);
		if (!run->match[i]) {
			kf_pretok_end(run);
			return kf_fail(err, KF_ENOMEM, "no memory to match a pre-tokenizer pattern");
		}
	}
	return KF_OK;
}

void kf_pretok_end(kf_pretok_run *run)
{
	for (int i = 0; i < KF_STEPS_MAX; i++)
		pcre2_match_data_free(run->match[i]);
	kf_buf_release(&run->chars);
	memset(run, 0, sizeof *run);
}

typedef struct {
	const kf_pretok *p;
	kf_pretok_run *run;
	kf_word_fn fn;
	void *arg;
	kf_err *err;
	const uint8_t *bytes, *seen; /* past a ByteLevel: the byte that the character at seen stands for; else NULL */
} walk;

/* One step's pieces, with one held back for the behaviours that join neighbours. */
typedef struct {
	const uint8_t *text;
	size_t from, to;        /* held back */
	bool held, held_match, prev_match;
} pending;

static kf_status words(walk *w, int step, const uint8_t *text, size_t n);

static kf_status flush(walk *w, int step, pending *q)
{
	const bool held = q->held;
	q->held = false;
	return held ? words(w, step + 1, q->text + q->from, q->to - q->from) : KF_OK;
}

/* A match, which may be empty, or what lies between two, which is nothing where that is empty. */
static kf_status piece(walk *w, int step, pending *q, size_t from, size_t to, bool match)
{
	kf_split how = w->p->step[step].how;
	bool join = false;
	kf_status rc = KF_OK;

	if (from == to && !match)
		return KF_OK;
	match ^= w->p->step[step].invert;
	switch (how) {
	case KF_SPLIT_ISOLATED:
		return words(w, step + 1, q->text + from, to - from);
	case KF_SPLIT_REMOVED:
		return match ? KF_OK : words(w, step + 1, q->text + from, to - from);
	case KF_SPLIT_PREVIOUS:
		join = q->held && match && !q->prev_match;
		q->prev_match = match;
		break;
	case KF_SPLIT_NEXT:
		join = q->held && q->held_match && !match;
		break;
	case KF_SPLIT_CONTIGUOUS:
		join = q->held && q->held_match == match;
		break;
	}
	if (!join) {
		rc = flush(w, step, q);
		q->from = from;
		q->held = true;
		q->held_match = match;
	} else if (how == KF_SPLIT_NEXT) {
		q->held_match = false;
	}
	q->to = to;
	return rc;
}

/* A word. One of characters is handed on as their bytes, which are where it stands in the text: words come in order. */
static bool hand_on(walk *w, const uint8_t *p, size_t n)
{
	if (!w->bytes)
		return w->fn(w->arg, p, n);
	size_t len = 0;
	for (; w->seen < p; w->seen++)
		w->bytes += (*w->seen & 0xc0) != 0x80;
	for (size_t i = 0; i < n; i++)
		len += (p[i] & 0xc0) != 0x80;
	return w->fn(w->arg, w->bytes, len);
}

/* The steps from a step on of a piece (n bytes of text), as the characters of its bytes. */
static kf_status words_of_chars(walk *w, int step, const uint8_t *text, size_t n)
{
	kf_buf *b = &w->run->chars;
	uint8_t c[4];

	kf_buf_clear(b);
	for (size_t i = 0; i < n; i++)
		kf_buf_put(b, c, kf_utf8_put(c, kf_byte_char(text[i])));
	kf_status rc = kf_buf_check(b, w->err);
	if (rc != KF_OK)
		return rc;
	w->bytes = text;
	w->seen = b->data;
	rc = words(w, step, b->data, b->len);
	w->bytes = NULL;
	return rc;
}

static kf_status words(walk *w, int step, const uint8_t *text, size_t n)
{
	if (!n)
		return KF_OK;
	if (step == w->p->n)
		return hand_on(w, text, n) ? KF_OK : KF_END;
	const kf_pretok_step *s = &w->p->step[step];
	if (s->chars && !w->bytes)
		return words_of_chars(w, step, text, n);
	pcre2_match_data *md = w->run->match[step];
	const PCRE2_SIZE *ov = md ? pcre2_get_ovector_pointer(md) : NULL;
	pending q = { .text = text };
	size_t prev = 0, at = 0, end = SIZE_MAX;
	kf_status rc;

	while (s->fast && at < n) {
		size_t skip, l = kf_pretok_fast(w->p->classes, s->fast, text + at, n - at, &skip);
		if (!l)
			break;
		at += skip;
		if ((skip && (rc = piece(w, step, &q, prev, at, false)) != KF_OK)
			|| (rc = piece(w, step, &q, at, at + l, true)) != KF_OK)
			return rc;
		prev = at += l;
	}
	while (!s->fast && at < n) {
		int m = pcre2_match(s->code, text, n, at, PCRE2_NO_UTF_CHECK, md, NULL);
		if (m == PCRE2_ERROR_JIT_STACKLIMIT)
			m = pcre2_match(s->code, text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, md, NULL);
		if (m == PCRE2_ERROR_NOMATCH)
			break;
		if (m < 0) {
			PCRE2_UCHAR why[120];
			pcre2_get_error_message(m, why, sizeof why);
			return kf_fail(w->err, KF_EDATA, "the pre-tokenizer pattern \"%s\" cannot be matched on this text: %s",
				s->pattern, (char *)why);
		}
		/* An empty match is one, too, but not where the last one ended. \K may put a match before the search or turn it around. */
		if (ov[0] < at || ov[1] < ov[0] || (ov[1] == ov[0] && ov[1] == end)) {
			unsigned l = kf_utf8_len(text + at, n - at);
			at += l ? l : 1;
			continue;
		}
		if ((rc = piece(w, step, &q, prev, ov[0], false)) != KF_OK
			|| (rc = piece(w, step, &q, ov[0], ov[1], true)) != KF_OK)
			return rc;
		prev = at = end = ov[1];
	}
	if ((rc = piece(w, step, &q, prev, n, false)) != KF_OK)
		return rc;
	return flush(w, step, &q);
}

kf_status kf_pretok_words(const kf_pretok *p, kf_pretok_run *run, const uint8_t *text, size_t n,
	kf_word_fn fn, void *arg, kf_err *err)
{
	walk w = { p, run, fn, arg, err, NULL, NULL };
	kf_status rc = n ? words(&w, 0, text, n) : KF_OK;
	return rc == KF_END ? KF_OK : rc;
}
