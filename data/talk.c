#include "data/talk.h"

#include <utf8proc.h>

#include "data/cut.h"

void kf_talk_release(kf_talk *t)
{
	kf_buf_release(&t->text);
	kf_free(t->turn);
	*t = (kf_talk){ .n = 0 };
}

static kf_status add_turn(kf_talk *t, kf_role role, size_t bytes, kf_err *err)
{
	if (t->n == t->cap) {
		uint32_t cap = t->cap ? 2 * t->cap : 16;
		kf_turn *more = kf_alloc(cap, sizeof *more);

		if (!more) return kf_fail(err, KF_ENOMEM, "out of memory for a conversation of %u messages", t->n);
		if (t->n) memcpy(more, t->turn, t->n * sizeof *more);
		kf_free(t->turn);
		t->turn = more;
		t->cap = cap;
	}
	t->turn[t->n++] = (kf_turn){ .bytes = (uint32_t)bytes, .role = (uint8_t)role };
	return KF_OK;
}

/* White space as Python's strip and Jinja's trim have it. */
static bool space(utf8proc_int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP || (c >= 9 && c <= 13) ||
		(c >= 28 && c <= 31) || c == 0x85;
}

static void trim(const uint8_t **text, size_t *n)
{
	utf8proc_int32_t c;
	size_t at;

	while (*n) {
		utf8proc_ssize_t len = utf8proc_iterate(*text, *n > 4 ? 4 : (utf8proc_ssize_t)*n, &c);

		if (len <= 0 || !space(c)) break;
		*text += len;
		*n -= (size_t)len;
	}
	while (*n) {
		for (at = *n - 1; at > 0 && ((*text)[at] & 0xc0) == 0x80; at--) {}
		if (utf8proc_iterate(*text + at, (utf8proc_ssize_t)(*n - at), &c) <= 0 || !space(c)) break;
		*n = at;
	}
}

static kf_status read_message(kf_talk *t, const json_t *m, size_t i, const char *where, bool nfc, kf_err *err)
{
	bool named = json_object_get(m, "role") != NULL;
	const json_t *role = json_object_get(m, named ? "role" : "from");
	const json_t *content = json_object_get(m, named || json_object_get(m, "content") ? "content" : "value");
	const uint8_t *text;
	size_t n, before = t->text.len;
	kf_role r;
	kf_status rc;

	if (!json_is_object(m))
		return kf_fail(err, KF_EDATA, "%s: message %zu is not an object: {\"role\": …, \"content\": …}", where, i + 1);
	if (!json_is_string(role)) return kf_fail(err, KF_EDATA, "%s: message %zu has no \"role\"", where, i + 1);
	if ((r = kf_role_of(json_string_value(role))) == KF_ROLES)
		return kf_fail(err, KF_EDATA, "%s: message %zu has the role \"%.50s\", which is not system, user or assistant", where,
			i + 1, json_string_value(role));
	if (!json_is_string(content))
		return kf_fail(err, KF_EDATA, "%s: the \"content\" of message %zu is not a string", where, i + 1);
	text = (const uint8_t *)json_string_value(content);
	n = json_string_length(content);
	trim(&text, &n);
	if (!n) return kf_fail(err, KF_EDATA, "%s: message %zu has no text", where, i + 1);
	if (nfc) {
		if ((rc = kf_text_nfc(text, n, &t->text, err)) != KF_OK) return rc;
	} else {
		kf_buf_put(&t->text, text, n);
		if ((rc = kf_buf_check(&t->text, err)) != KF_OK) return rc;
	}
	if (t->text.len > KF_CUT_MAX)
		return kf_fail(err, KF_EDATA, "%s: the conversation has more than %u bytes", where, KF_CUT_MAX);
	return add_turn(t, r, t->text.len - before, err);
}

kf_status kf_talk_read(kf_talk *t, const json_t *messages, const char *where, bool nfc, kf_err *err)
{
	bool assistant = false;
	const json_t *m;
	size_t i;
	kf_status rc;

	kf_buf_clear(&t->text);
	t->n = 0;
	if (!json_is_array(messages)) return kf_fail(err, KF_EDATA, "%s: \"messages\" is not a list", where);
	if (!json_array_size(messages)) return kf_fail(err, KF_EDATA, "%s: the conversation is empty", where);
	json_array_foreach(messages, i, m)
		if ((rc = read_message(t, m, i, where, nfc, err)) != KF_OK) return rc;
	for (i = 0; i < t->n; i++) assistant |= t->turn[i].role == KF_ASSISTANT;
	if (!assistant)
		return kf_fail(err, KF_EDATA, "%s: the conversation has no message of the assistant, so nothing to learn from", where);
	return KF_OK;
}

uint32_t kf_talk_cut(const kf_turn *turns, uint32_t n, uint32_t first, size_t limit)
{
	uint32_t last = 0, fits = 0;   /* the last assistant's message; the last cut within limit */
	size_t bytes = 0;

	for (uint32_t i = first; i < n; i++)
		if (turns[i].role == KF_ASSISTANT) last = i;
	for (uint32_t i = first; i < n; bytes += turns[i++].bytes) {
		if (i == first || turns[i].role != KF_USER || turns[i - 1].role != KF_ASSISTANT || i > last) continue;
		if (bytes > limit) return fits ? fits : i - first;
		fits = i - first;
	}
	return bytes > limit && fits ? fits : n - first;
}
