/* Which of the named chat templates is this Jinja text? */
#include <string.h>

#include "common/base/mem.h"
#include "common/text/chat.h"
#include "common/text/chat_templates.h"

#define TEMPLATE_MAX ((size_t)1 << 20)

void kf_chat_names(char *out, size_t size)
{
	size_t at = 0;

	if (size) *out = 0;
	for (const kf_chat_template *t = kf_chat_templates; t->name && at < size; t++) {
		size_t n = strlen(t->name) + (at ? 2 : 0);

		if (at + n >= size) return;
		if (at) memcpy(out + at, ", ", 2);
		memcpy(out + at + n - strlen(t->name), t->name, strlen(t->name) + 1);
		at += n;
	}
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* A tag from p[i], after its braces, to behind its end: no blanks outside quotes, x['name'] as x.name; quotes are single, \n in them is a
 * line end. *trims: it ends with "-". */
static size_t tag(const char *p, size_t n, size_t i, char kind, kf_buf *out, bool *trims)
{
	char quote = 0;

	*trims = false;
	if (i < n && (p[i] == '-' || p[i] == '+')) i++;
	for (; i < n; i++) {
		char c = p[i], next = i + 1 < n ? p[i + 1] : 0;

		if (quote) {
			if (c == '\\' && (next == 'n' || next == '\'' || next == '"' || next == '\\')) {
				kf_buf_u8(out, (uint8_t)(next == 'n' ? '\n' : next));
				i++;
			} else if (c == quote) {
				kf_buf_u8(out, '\'');
				quote = 0;
			} else {
				kf_buf_u8(out, (uint8_t)c);
			}
		} else if (blank(c)) {
			continue;
		} else if (c == kind && next == '}') {
			kf_buf_u8(out, (uint8_t)kind);
			kf_buf_u8(out, '}');
			return i + 2;
		} else if (c == '[' && (next == '\'' || next == '"')) {
			const char *end = memchr(p + i + 2, next, n - i - 2);

			if (end && end + 1 < p + n && end[1] == ']') { /* ['role'] */
				kf_buf_u8(out, '.');
				kf_buf_put(out, p + i + 2, (size_t)(end - p) - i - 2);
				i = (size_t)(end - p) + 1;
			} else {
				kf_buf_u8(out, '[');
			}
		} else if (c == '\'' || c == '"') {
			quote = c;
			kf_buf_u8(out, '\'');
		} else if (c == '-' && next == kind && i + 2 < n && p[i + 2] == '}') {
			*trims = true;
		} else {
			kf_buf_u8(out, (uint8_t)c);
		}
	}
	return n;
}

/* What stands outside tags: at most single line ends after what is written, or other text. */
typedef enum { NOTHING, LINE_ENDS, TEXT } outside;

static outside more(outside a, outside b) { return a > b ? a : b; }

/* Of p[from, to), which stands between tags, what Jinja renders as transformers has it set (trim_blocks, lstrip_blocks): after what ends a
 * block no line end, before what begins one no indentation, beside a "-" no blanks. before, after: the tags' kinds, 0 for the ends. */
static outside between(const char *p, size_t from, size_t to, char before, bool trims, char after, bool trimmed, kf_buf *out)
{
	const size_t begin = from;

	if (trims) while (from < to && blank(p[from])) from++;
	else if ((before == '%' || before == '#') && from < to && p[from] == '\n') from++;
	if (trimmed) {
		while (to > from && blank(p[to - 1])) to--;
	} else if (after == '%' || after == '#') {
		size_t line = to;

		while (line > begin && (p[line - 1] == ' ' || p[line - 1] == '\t')) line--;
		if (line == 0 || (line > begin && p[line - 1] == '\n')) to = line > from ? line : from;
	} else if (!after && to > from && p[to - 1] == '\n') {
		to--;                              /* the template's own last line end */
	}
	kf_buf_put(out, p + from, to - from);
	return to == from ? NOTHING : before == '{' && to - from == 1 && p[from] == '\n' ? LINE_ENDS : TEXT;
}

/* The ways of writing one thing made one. What stands outside tags is in out as it is rendered. */
static outside normalise(const char *p, size_t n, kf_buf *out)
{
	size_t from = 0, i = 0;
	outside text = NOTHING;
	bool trims = false;
	char before = 0;

	while (i < n) {
		char kind = i + 1 < n && p[i] == '{' ? p[i + 1] : 0;

		if (kind != '{' && kind != '%' && kind != '#') {
			i++;
			continue;
		}
		text = more(text, between(p, from, i, before, trims, kind, i + 2 < n && p[i + 2] == '-', out));
		before = kind;
		if (kind == '#') {
			const char *end = memmem(p + i + 2, n - i - 2, "#}", 2);

			trims = end && end[-1] == '-';
			i = end ? (size_t)(end - p) + 2 : n;
		} else {
			kf_buf_u8(out, '{');
			kf_buf_u8(out, (uint8_t)kind);
			i = tag(p, n, i + 2, kind == '{' ? '}' : '%', out, &trims);
		}
		from = i;
	}
	text = more(text, between(p, from, n, before, trims, 0, false, out));
	kf_buf_u8(out, 0);
	return text;
}

static bool is(const kf_chat_template *t, const char *text, outside besides)
{
	if (besides > (t->line_ends ? LINE_ENDS : NOTHING)) return false;
	if (!t->has[0] || (t->longest && strlen(text) > (size_t)t->longest)) return false;
	for (size_t i = 0; i < sizeof t->has / sizeof *t->has; i++)
		if (t->has[i] && !strstr(text, t->has[i])) return false;
	for (size_t i = 0; i < sizeof t->lacks / sizeof *t->lacks; i++)
		if (t->lacks[i] && strstr(text, t->lacks[i])) return false;
	return true;
}

/* Whether a normalised text is the one we write of this template. */
static kf_status is_ours(const kf_chat_template *t, const char *text, bool *ours, kf_err *err)
{
	kf_buf jinja = { 0 }, b = { 0 };
	kf_status rc;

	kf_chat_template_jinja(t, &jinja);
	if ((rc = kf_buf_check(&jinja, err)) == KF_OK) {
		normalise((const char *)jinja.data, jinja.len, &b);
		rc = kf_buf_check(&b, err);
	}
	*ours = rc == KF_OK && strcmp((const char *)b.data, text) == 0;
	kf_buf_release(&b);
	kf_buf_release(&jinja);
	return rc;
}

kf_status kf_chat_recognise(const char *text, size_t n, const char **name, kf_err *err)
{
	kf_buf b = { 0 };
	char names[512];
	outside besides;
	kf_status rc;

	*name = NULL;
	if (n > TEMPLATE_MAX) return kf_fail(err, KF_EUNSUPPORTED, "the chat template is %zu bytes long", n);
	besides = normalise(text, n, &b);
	if ((rc = kf_buf_check(&b, err)) != KF_OK) goto out;
	for (const kf_chat_template *t = kf_chat_templates; t->name && !*name; t++) {
		bool same = is(t, (const char *)b.data, besides);

		if (!same && (rc = is_ours(t, (const char *)b.data, &same, err)) != KF_OK) goto out;
		if (same) *name = t->name;
	}
	if (!*name) {
		kf_chat_names(names, sizeof names);
		rc = kf_fail(err, KF_EUNSUPPORTED, "the chat template is none that kfuse knows; if it amounts to one of these, give it with "
			"--chat-template: %s", names);
	}
out:
	kf_buf_release(&b);
	return rc;
}
