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

/* The ways of writing one thing made one: outside quotes no blanks, no "-" beside a tag's braces, x['name'] as x.name;
 * quotes are single, \n in them is a line end. */
static void normalise(const char *p, size_t n, kf_buf *out)
{
	char quote = 0;

	for (size_t i = 0; i < n; i++) {
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
		} else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
			continue;
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
		} else if (c == '-' && (next == '}' || next == '%' || (out->len && (out->data[out->len - 1] == '{' ||
		    out->data[out->len - 1] == '%')))) {
			continue; /* {{- -}} {%- -%} */
		} else {
			kf_buf_u8(out, (uint8_t)c);
		}
	}
	kf_buf_u8(out, 0);
}

static bool is(const kf_chat_template *t, const char *text)
{
	if (!t->has[0] || (t->longest && strlen(text) > (size_t)t->longest)) return false;
	for (int i = 0; i < 4; i++) {
		if (t->has[i] && !strstr(text, t->has[i])) return false;
		if (t->lacks[i] && strstr(text, t->lacks[i])) return false;
	}
	return true;
}

kf_status kf_chat_recognise(const char *text, size_t n, const char **name, kf_err *err)
{
	kf_buf b = { 0 };
	char names[512];
	kf_status rc;

	*name = NULL;
	if (n > TEMPLATE_MAX) return kf_fail(err, KF_EUNSUPPORTED, "the chat template is %zu bytes long", n);
	normalise(text, n, &b);
	if ((rc = kf_buf_check(&b, err)) != KF_OK) goto out;
	for (const kf_chat_template *t = kf_chat_templates; t->name && !*name; t++)
		if (is(t, (const char *)b.data)) *name = t->name;
	if (!*name) {
		kf_chat_names(names, sizeof names);
		rc = kf_fail(err, KF_EUNSUPPORTED, "the chat template is none that kfuse knows; if it amounts to one of these, give it with "
			"--chat-template: %s", names);
	}
out:
	kf_buf_release(&b);
	return rc;
}
