/* Prompts as models get them, and answers as they are judged. */
#include "eval/task.h"

#include <string.h>
#include <utf8proc.h>

#include "common/text/utf8.h"

static void put(kf_buf *out, const char *text) { kf_buf_put(out, text, strlen(text)); }

void kf_task_prompt(const kf_eval_task *t, int i, int shots, kf_buf *out)
{
	put(out, t->prefix);
	for (int s = 0; s < shots; s++) {
		const kf_task_item *x = &t->item[s];

		put(out, x->prompt);
		put(out, t->delimiter);
		put(out, x->solution ? x->solution : x->n_options ? x->option[x->best] : "");
		put(out, t->separator);
	}
	put(out, t->item[i].prompt);
}

/* ---- normalising ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_punctuation(char c)
{
	return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

static void trim(const char **text, size_t *n)
{
	while (*n && kf_is_space(**text)) {
		++*text;
		--*n;
	}
	while (*n && kf_is_space((*text)[*n - 1])) --*n;
}

static void plain_words(const char *text, size_t n, kf_buf *out)
{
	bool gap = false, any = false;

	for (size_t i = 0, len; i < n; i += len) {
		const char c = text[i];
		utf8proc_int32_t code;
		utf8proc_ssize_t l = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &code);
		uint8_t low[4];

		len = l > 0 ? (size_t)l : 1;
		if (kf_is_space((uint8_t)c)) gap = true;
		if (kf_is_space((uint8_t)c) || is_punctuation(c)) continue;
		if (gap && any) kf_buf_u8(out, ' ');
		gap = false;
		any = true;
		if (l > 0) kf_buf_put(out, low, (size_t)utf8proc_encode_char(utf8proc_tolower(code), low));
		else kf_buf_u8(out, (uint8_t)c);
	}
}

static size_t digits(const char *text, size_t n, size_t i)
{
	size_t at = i;

	while (at < n && is_digit(text[at])) at++;
	return at - i;
}

/* The number that begins at text[i]: digits, with commas before every three of them or without, and a fraction, or that alone. Returns where
 * it ends, or i. */
static size_t number_end(const char *text, size_t n, size_t i)
{
	size_t at = i + digits(text, n, i);

	while (at > i && at < n && text[at] == ',' && digits(text, n, at + 1) == 3) at += 4;
	if (at + 1 < n && text[at] == '.' && is_digit(text[at + 1])) at += 1 + digits(text, n, at + 1);
	return at;
}

static bool find_number(const char *text, size_t n, bool first, size_t *from, size_t *to)
{
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		size_t end = number_end(text, n, i);

		if (end == i) continue;
		*from = i;
		*to = end;
		found = true;
		if (first) break;
		i = end;
	}
	return found;
}

static bool plain_number(const char *text, size_t n, kf_buf *out)
{
	size_t mark = n, from = 0, to = 0, begin = out->len, digit;
	bool fraction = false;

	for (size_t i = 0; i + 4 <= n; i++)
		if (memcmp(text + i, "####", 4) == 0) mark = i + 4;
	if (mark < n && find_number(text + mark, n - mark, true, &from, &to)) {
		text += mark;
	} else if (!find_number(text, n, false, &from, &to)) {
		return false;
	}
	/* "-5", "$-5" and "-$5", but not the 5 of "3-5" */
	for (size_t i = from; i > 0 && (text[i - 1] == '-' || text[i - 1] == '$'); i--)
		if (text[i - 1] == '-' && (i == 1 || !is_digit(text[i - 2]))) {
			kf_buf_u8(out, '-');
			break;
		}
	digit = out->len;
	if (text[from] == '.') kf_buf_u8(out, '0');
	while (from + 1 < to && text[from] == '0' && is_digit(text[from + 1])) from++;
	for (size_t i = from; i < to; i++) {
		fraction = fraction || text[i] == '.';
		if (text[i] != ',') kf_buf_u8(out, (uint8_t)text[i]);
	}
	while (fraction && out->len > begin && out->data[out->len - 1] == '0') out->len--;
	if (fraction && out->len > begin && out->data[out->len - 1] == '.') out->len--;
	/* of zero there is no other sign */
	if (digit > begin && out->len == digit + 1 && out->data[digit] == '0') out->data[--out->len - 1] = '0';
	return true;
}

bool kf_task_normalize(kf_normalize how, const char *text, size_t n, kf_buf *out)
{
	trim(&text, &n);
	if (how == KF_NORMALIZE_NUMBER) return plain_number(text, n, out);
	if (how == KF_NORMALIZE_TEXT) plain_words(text, n, out);
	else kf_buf_put(out, text, n);
	return true;
}

kf_status kf_task_matches(const kf_eval_task *t, const kf_task_item *item, const char *text, size_t n, bool *out, kf_err *err)
{
	kf_buf got = { 0 }, want = { 0 };
	bool any = kf_task_normalize(t->normalize, text, n, &got);
	kf_status rc = kf_buf_check(&got, err);

	*out = false;
	for (int i = 0; any && rc == KF_OK && i < item->n_options && !*out; i++) {
		kf_buf_clear(&want);
		if (!kf_task_normalize(t->normalize, item->option[i], strlen(item->option[i]), &want)) continue;
		if ((rc = kf_buf_check(&want, err)) == KF_OK)
			*out = got.len == want.len && (!got.len || memcmp(got.data, want.data, got.len) == 0);
	}
	kf_buf_release(&got);
	kf_buf_release(&want);
	return rc;
}

/* ---- what was generated ---- */

void kf_task_text(const uint8_t *bytes, size_t n, kf_buf *out)
{
	for (size_t i = 0; i < n;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t len = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(n - i), &c);

		if (len > 0) kf_buf_put(out, bytes + i, (size_t)len);
		else kf_buf_put(out, "\xef\xbf\xbd", 3);
		i += len > 0 ? (size_t)len : 1;
	}
}

/* What stands between the first ``` line and the next ```, or all of it. */
static void fenced(const char **text, size_t *n)
{
	const char *end = *text + *n, *open = NULL, *p;

	for (p = *text; p + 3 <= end; p++)
		if (memcmp(p, "```", 3) == 0) {
			open = p;
			break;
		}
	if (!open || !(p = memchr(open, '\n', (size_t)(end - open)))) return;
	*text = ++p;
	for (; p + 3 <= end && memcmp(p, "```", 3) != 0;) p++;
	*n = (size_t)((p + 3 <= end ? p : end) - *text);
}

void kf_task_program(const kf_task_item *item, const char *text, size_t n, bool reply, kf_buf *out)
{
	put(out, item->prompt);
	/* A prompt ends after a docstring, so it is a function by itself, which the reply's replaces; its imports stay. */
	if (reply) {
		const char *whole = text;

		fenced(&text, &n);
		if (text != whole) put(out, "\n");
	}
	kf_buf_put(out, text, n);
	put(out, "\n");
	put(out, item->test);
	put(out, "\ncheck(");
	put(out, item->entry);
	put(out, ")\n");
}
