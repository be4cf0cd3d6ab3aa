/* The given tokens against the document's text. They are good if the tokenizer encodes the text so, or if their bytes
 * are the text's (another program may cut it in another way). */
#include "import/record.h"

typedef struct {
	const import_answer *a;
	const import_names *names;
	const kf_corpus_rec *doc;
	kf_encoding enc;
	/* the first disagreement, with the text at this byte */
	uint32_t token, byte;
} matcher;

/* Whether given token i may be this one: by its id, its name, or as one that its position has a number for. */
static bool told(const matcher *m, uint32_t i, int32_t id)
{
	const import_answer *a = m->a;

	if (a->id[i] >= 0) return a->id[i] == id;
	if (a->name[i].s) return import_name_fits(m->names, a->name[i], id);
	if (i >= a->rows || a->off[i] == a->off[i + 1]) return true;
	for (uint32_t j = a->off[i]; j < a->off[i + 1]; j++)
		if (a->cand[j] == id) return true;
	return false;
}

/* Does the tokenizer cut the text into the given tokens, from base on? */
static bool as_encoded(matcher *m, uint32_t base)
{
	for (uint32_t i = 0; i < m->enc.n; i++) {
		if (base + i < m->a->n && told(m, base + i, m->enc.ids[i])) continue;
		m->token = base + i;
		m->byte = m->enc.start[i];
		return false;
	}
	m->token = base + m->enc.n;
	m->byte = m->doc->head.bytes;
	return m->a->n == base + m->enc.n || (m->a->server && m->a->n > base + m->enc.n);
}

/* Do the bytes of the given tokens make the text? space: one stands before it, a dummy prefix. */
static bool as_spelled(matcher *m, uint32_t base, bool space, int32_t *ids, uint32_t *start, uint32_t *n)
{
	const import_answer *a = m->a;
	const kf_tokenizer *t = m->names->t;
	uint32_t at = 0, end = m->doc->head.bytes, i;

	for (i = 0; base + i < a->n && !(at == end && a->server && i > 0); i++) {
		uint32_t len = 0, skip = space && i == 0;
		int32_t id = a->id[base + i] >= 0 ? a->id[base + i] : a->name[base + i].s ? import_names_find(m->names, a->name[base + i]) : -1;
		const uint8_t *b = NULL;

		m->token = base + i;
		m->byte = at;
		if (id < 0 || id >= kf_tokenizer_size(t)) return false;
		b = kf_tokenizer_bytes(t, id, &len);
		if (len == 0) { /* a control token that the text spells out, read as one */
			b = (const uint8_t *)kf_tokenizer_piece(t, id);
			len = (uint32_t)strlen((const char *)b);
			if (len == 0) return false;
			skip = 0;
		}
		if (skip && b[0] != ' ') return false;
		b += skip, len -= skip;
		if (len > end - at || memcmp(b, m->doc->text + at, len)) return false;
		ids[i] = id;
		start[i] = at;
		at += len;
	}
	m->token = base + i;
	m->byte = at;
	start[i] = at;
	*n = i;
	return at == end;
}

static kf_status disagree(const matcher *m, kf_err *err)
{
	const import_answer *a = m->a;
	uint32_t i = m->token, n = 0;
	unsigned long long doc = m->doc->head.doc;
	const char *ask = "another tokenizer, or another text?";
	const uint8_t *b = NULL;
	char text[49], token[49];

	import_shown(m->doc->text + m->byte, m->doc->head.bytes - m->byte, text);
	if (i >= a->n && m->byte < m->doc->head.bytes)
		return kf_fail(err, KF_EDATA, "%s: its %u tokens end at byte %u of document %llu, which goes on \"%s\": %s", a->where, a->n,
			m->byte, doc, text, ask);
	if (m->byte >= m->doc->head.bytes)
		return kf_fail(err, KF_EDATA, "%s: token %u of %u stands after the end of document %llu, byte %u: %s", a->where, i, a->n, doc,
			m->byte, ask);
	if (a->id[i] < 0 && !a->name[i].s)
		return kf_fail(err, KF_EDATA, "%s: token %u has no log-probability of the token that the tokenizer finds at byte %u of document "
			"%llu, which reads \"%s\": %s", a->where, i, m->byte, doc, text, ask);
	if (a->name[i].s) import_shown((const uint8_t *)a->name[i].s, a->name[i].n, token);
	else if (a->id[i] >= kf_tokenizer_size(m->names->t)) snprintf(token, sizeof token, "not in the vocabulary");
	else if ((b = kf_tokenizer_bytes(m->names->t, a->id[i], &n)) && n) import_shown(b, n, token);
	else snprintf(token, sizeof token, "%.40s", kf_tokenizer_piece(m->names->t, a->id[i]));
	if (a->id[i] < 0 && import_names_find(m->names, a->name[i]) < 0 && !import_name_is_half(a->name[i]))
		return kf_fail(err, KF_EDATA, "%s: token %u, \"%s\", is no token of the tokenizer, neither by its text nor by its spelling, and document %llu "
			"has \"%s\" there: is --tokenizer that of the model that was asked? Where the other program has ids, give these instead", a->where,
			i, token, doc, text);
	if (a->id[i] >= 0)
		return kf_fail(err, KF_EDATA, "%s: token %u, id %d (\"%s\"), is not what document %llu has at byte %u, \"%s\": %s", a->where, i,
			(int)a->id[i], token, doc, m->byte, text, ask);
	return kf_fail(err, KF_EDATA, "%s: token %u, \"%s\", is not what document %llu has at byte %u, \"%s\": %s", a->where, i, token, doc,
		m->byte, text, ask);
}

/* A server's offsets are of characters, and it may have lost the space a token begins with: from one token to the next they
 * must be apart as far as the text is, or the token's name is long. Where characters are not bytes they are not looked at. */
static kf_status check_offsets(const matcher *m, const import_match *r, kf_err *err)
{
	const import_answer *a = m->a;

	for (uint32_t i = 0; a->offset && i + 1 < r->n; i++) {
		const uint8_t *p = m->doc->text + r->start[i];
		uint32_t n = r->start[i + 1] - r->start[i], at = r->base + i, apart = a->offset[at + 1] - a->offset[at];

		for (uint32_t k = 0; k < n; k++)
			if (p[k] >= 0x80) return KF_OK;
		if (i == 0 || apart == n || (a->name[at].s && apart == a->name[at].n)) continue;
		return kf_fail(err, KF_EDATA, "%s: by its \"text_offset\" token %u has %u characters, by the text of document %llu %u", a->where, at,
			apart, (unsigned long long)m->doc->head.doc, n);
	}
	return KF_OK;
}

/* A BOS that the tokenizer adds may come first, unless the record says how it has it. */
static uint32_t base_of(const matcher *m)
{
	const import_answer *a = m->a;
	int32_t bos = kf_tokenizer_bos(m->names->t);

	if (a->bos >= 0 || bos < 0 || a->n == 0) return 0;
	if (a->id[0] >= 0) return a->id[0] == bos;
	/* servers leave the text of a control token out, or spell it */
	if (a->name[0].s) return a->name[0].n == 0 || import_names_find(m->names, a->name[0]) == bos;
	return a->n == m->enc.n + 1;
}

/* Whether the tokenizer itself has token id for these bytes, though it spells others: SentencePiece changes some characters. */
static bool stands_for(const matcher *m, int32_t id, const uint8_t *text, size_t n, kf_arena *arena)
{
	kf_encoding enc;
	kf_err ignored;

	if (kf_tokenizer_encode(m->names->t, text, n, false, arena, &enc, &ignored) != KF_OK) return false;
	for (uint32_t i = 0; i < enc.n; i++)
		if (enc.ids[i] == id) return true;
	return false;
}

/* Conversations: where tokens stand only the record can tell, since the messages say nothing of the template. */
static kf_status conversation(const matcher *m, kf_arena *arena, import_match *out, kf_err *err)
{
	const import_answer *a = m->a;
	const kf_dochead *h = &m->doc->head;
	uint32_t *start, n;
	char token[49];

	if (!a->context || !a->start)
		return kf_fail(err, KF_EUNSUPPORTED, "%s: document %llu is a conversation, for which \"tokens\", \"start\" and \"context\" are wanted, "
			"as kf-export writes them", a->where, (unsigned long long)h->doc);
	if (!(start = KF_ARENA_NEW(arena, uint32_t, (size_t)a->n + 1))) return import_nomem(a, err);
	for (uint32_t i = 0; i <= a->n; i++) {
		start[i] = i < a->n_start ? a->start[i] : h->bytes;
		if (start[i] > h->bytes || (i && start[i] < start[i - 1]) || (i == 0 && start[0]) || (i == a->n && a->n && start[i] != h->bytes))
			return kf_fail(err, KF_EDATA, "%s: item %u of \"start\", %u, is out of order: document %llu has %u bytes", a->where, i, start[i],
				(unsigned long long)h->doc, h->bytes);
	}
	for (uint32_t i = 0; i < a->n; i++) {
		const uint8_t *b = NULL, *span = m->doc->text + start[i];

		if (a->id[i] < 0)
			return kf_fail(err, KF_EDATA, "%s: token %u, \"%s\", is no id: of a conversation \"tokens\" must be ids, as kf-export writes them",
				a->where, i, import_shown((const uint8_t *)a->name[i].s, a->name[i].n, token));
		if (a->id[i] >= kf_tokenizer_size(m->names->t))
			return kf_fail(err, KF_EDATA, "%s: token %u has id %d, but the tokenizer has %d tokens: is --tokenizer that of the model that was "
				"asked?", a->where, i, (int)a->id[i], (int)kf_tokenizer_size(m->names->t));
		b = kf_tokenizer_bytes(m->names->t, a->id[i], &n);
		/* on the border of template and message, only a part of the token stands in the message */
		if (n && start[i + 1] > start[i] && !memmem(b, n, span, start[i + 1] - start[i]) &&
		    !stands_for(m, a->id[i], span, start[i + 1] - start[i], arena)) {
			matcher at = *m;

			at.token = i;
			at.byte = start[i];
			return disagree(&at, err);
		}
	}
	*out = (import_match){ .n = a->n, .ids = a->id, .start = start };
	return KF_OK;
}

kf_status import_match_tokens(const import_answer *a, const import_names *names, const kf_corpus_rec *doc, kf_arena *arena,
	import_match *out, kf_err *err)
{
	matcher m = { .a = a, .names = names, .doc = doc };
	uint32_t first_token, first_byte;
	int32_t *ids;
	uint32_t *start;
	kf_status rc;

	if (doc->n_turns) return conversation(&m, arena, out, err);
	if (a->context)
		return kf_fail(err, KF_EDATA, "%s: it has \"context\", but document %llu is no conversation", a->where, (unsigned long long)doc->head.doc);
	if ((rc = kf_tokenizer_encode(names->t, doc->text, doc->head.bytes, false, arena, &m.enc, err)) != KF_OK)
		return kf_context(err, rc, "document %llu", (unsigned long long)doc->head.doc);
	out->base = base_of(&m);
	if (as_encoded(&m, out->base)) {
		out->n = m.enc.n;
		out->ids = m.enc.ids;
		out->start = m.enc.start;
	} else {
		first_token = m.token;
		first_byte = m.byte;
		ids = KF_ARENA_NEW(arena, int32_t, (size_t)a->n + 1);
		start = KF_ARENA_NEW(arena, uint32_t, (size_t)a->n + 1);
		if (!ids || !start) return import_nomem(a, err);
		if (!as_spelled(&m, out->base, kf_tokenizer_dummy_prefix(names->t), ids, start, &out->n) &&
		    !(kf_tokenizer_dummy_prefix(names->t) && as_spelled(&m, out->base, false, ids, start, &out->n))) {
			if (m.token < first_token) { /* whichever got further knows better where they part */
				m.token = first_token;
				m.byte = first_byte;
			}
			return disagree(&m, err);
		}
		out->ids = ids;
		out->start = start;
	}
	for (uint32_t i = 0; a->start && out->base + i < a->n_start && i <= out->n; i++)
		if (a->start[out->base + i] != out->start[i])
			return kf_fail(err, KF_EDATA, "%s: token %u begins at byte %u of document %llu by its \"start\", at byte %u by its text", a->where,
				out->base + i, a->start[out->base + i], (unsigned long long)doc->head.doc, out->start[i]);
	return check_offsets(&m, out, err);
}
