/* Rendering conversations and encoding them. */
#include "common/text/chat.h"

#include <stdio.h>

#include "common/text/chat_templates.h"
#include "common/text/internal.h"

#define TOKENS_MAX 8   /* control tokens of a template */

struct kf_chat {
	const kf_chat_template *tpl;
	const kf_tokenizer *t;
	const char *spelling[TOKENS_MAX]; /* in the template's strings, ended by \2 */
	int32_t id[TOKENS_MAX];
	int n;
	bool no_bos;                      /* the template is the model's own, and its tokenizer names no BOS: nothing is rendered */
};

const char *kf_chat_name(const kf_chat *c) { return c->tpl->name; }
void kf_chat_free(kf_chat *c) { kf_free(c); }

/* ---- a template and its tokenizer ---- */

/* The token of this spelling; of several the control token. */
static int32_t find_token(const kf_tokenizer *t, const char *s, size_t n)
{
	int32_t found = -1;

	for (int32_t id = 0; id < t->n; id++) {
		const char *piece = kf_tokenizer_piece(t, id);

		if (strncmp(piece, s, n) != 0 || piece[n]) continue;
		if (t->type[id] == KF_TT_CONTROL) return id;
		if (found < 0) found = id;
	}
	return found;
}

static kf_status add_tokens(kf_chat *c, const char *s, kf_err *err)
{
	for (; s && *s; s++) {
		const char *end;
		int32_t id;

		if (*s == *BOS && c->t->bos < 0)
			return kf_fail(err, KF_EMISMATCH, "the chat template %s begins with BOS, but the tokenizer has none", c->tpl->name);
		if (*s == *EOS && c->t->eos < 0)
			return kf_fail(err, KF_EMISMATCH, "the chat template %s ends replies with EOS, but the tokenizer has none", c->tpl->name);
		if (*s != 1) continue;
		end = strchr(++s, 2);
		if ((id = find_token(c->t, s, (size_t)(end - s))) < 0)
			return kf_fail(err, KF_EMISMATCH, "the chat template %s needs the token %.*s, which the tokenizer does not have",
				c->tpl->name, (int)(end - s), s);
		c->spelling[c->n] = s;
		c->id[c->n++] = id;
		/* a string has few tokens, and those of two strings are mostly the same */
		for (int i = 0; i + 1 < c->n; i++)
			if (c->id[i] == id) {
				c->n--;
				break;
			}
		s = end;
	}
	return KF_OK;
}

static kf_status find(const char *name, const kf_chat_template **out, kf_err *err)
{
	char names[512];

	for (*out = kf_chat_templates; (*out)->name; (*out)++)
		if (strcmp((*out)->name, name) == 0) return KF_OK;
	kf_chat_names(names, sizeof names);
	return kf_fail(err, KF_EINVAL, "there is no chat template \"%s\"; there are %s", name, names);
}

kf_status kf_chat_check(const char *name, kf_err *err)
{
	const kf_chat_template *tpl;

	return find(name, &tpl, err);
}

kf_status kf_chat_open(const char *name, const kf_tokenizer *t, kf_chat **out, kf_err *err)
{
	const kf_chat_template *tpl;
	kf_chat *c;
	kf_status rc;

	*out = NULL;
	if ((rc = find(name, &tpl, err)) != KF_OK) return rc;
	if (!(c = kf_zalloc(1, sizeof *c))) return kf_fail(err, KF_ENOMEM, "no memory for a chat template");
	c->tpl = tpl;
	c->t = t;
	if ((rc = add_tokens(c, tpl->start, err)) != KF_OK || (rc = add_tokens(c, tpl->no_system, err)) != KF_OK ||
	    (rc = add_tokens(c, tpl->system, err)) != KF_OK || (rc = add_tokens(c, tpl->user, err)) != KF_OK ||
	    (rc = add_tokens(c, tpl->assistant, err)) != KF_OK) {
		kf_chat_free(c);
		return rc;
	}
	*out = c;
	return KF_OK;
}

kf_status kf_chat_choose(const char *name, const kf_tokenizer *t, const char *model, kf_chat **out, kf_err *err)
{
	const char *text = kf_tokenizer_chat_template(t);
	const bool own = !name;
	char names[512];
	kf_status rc = KF_OK;

	*out = NULL;
	if (!name && !text) {
		kf_chat_names(names, sizeof names);
		return kf_fail(err, KF_EUNSUPPORTED, "%s has no chat template, which conversations need; give one with --chat-template: %s",
			model, names);
	}
	if (!name) rc = kf_chat_recognise(text, strlen(text), &name, err);
	if (rc == KF_OK) rc = kf_chat_open(name, t, out, err);
	if (rc == KF_OK) (*out)->no_bos = own && (t->none | t->unnamed) & 1;
	return kf_context(err, rc, "%s", model);
}

kf_status kf_chat_adopt(const char *name, kf_tokenizer *t, kf_err *err)
{
	const char *own = kf_tokenizer_chat_template(t), *is = NULL;
	kf_buf jinja = { 0 };
	kf_chat *chat;
	kf_status rc;

	if ((rc = kf_chat_open(name, t, &chat, err)) != KF_OK) return rc;
	if (own && (rc = kf_chat_recognise(own, strlen(own), &is, err)) == KF_EUNSUPPORTED) rc = KF_OK;
	if (rc != KF_OK || (is && strcmp(is, name) == 0)) goto out;
	kf_chat_template_jinja(chat->tpl, &jinja);
	kf_buf_u8(&jinja, 0);
	if ((rc = kf_buf_check(&jinja, err)) == KF_OK) rc = kf_tokenizer_set_chat_template(t, (const char *)jinja.data, err);
out:
	kf_buf_release(&jinja);
	kf_chat_free(chat);
	return rc;
}

kf_status kf_chat_other_end(const kf_tokenizer *t, int32_t *id, kf_err *err)
{
	const char *text = t->other_template ? t->chat_template : NULL, *name, *s, *end;
	kf_chat *chat = NULL;
	kf_status rc;

	*id = -1;
	if (!text) return KF_OK;
	if ((rc = kf_chat_recognise(text, strlen(text), &name, err)) == KF_OK) rc = kf_chat_open(name, t, &chat, err);
	if (rc == KF_EUNSUPPORTED || rc == KF_EMISMATCH) return KF_OK;
	if (rc != KF_OK) return rc;
	s = strpbrk(strstr(chat->tpl->assistant, BODY), "\1" EOS);
	if (s && *s == *EOS) {
		*id = t->eos;
	} else if (s) {
		end = strchr(++s, 2);
		*id = find_token(t, s, (size_t)(end - s));
	}
	kf_chat_free(chat);
	return KF_OK;
}

/* ---- rendering ---- */

/* A stretch of the rendering: a control token, or bytes of the template, or of a message. */
typedef struct {
	int32_t id;                /* of a control token, else -1 */
	const uint8_t *p;          /* of the text; NULL of a control token */
	uint32_t n;
	bool message, reply;       /* bytes of a message; of an assistant's */
	bool ends;                 /* a control token that ends a reply */
} part;

typedef struct {
	part *item;
	uint32_t n, cap;
	kf_arena *arena;
	bool failed;
	bool reply_open;           /* a reply whose end has not come yet */
} parts;

static void add(parts *r, part x)
{
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? 2 * r->cap : 64;
		part *more = KF_ARENA_NEW(r->arena, part, cap);

		if (!more) {
			r->failed = true;
			return;
		}
		if (r->n) memcpy(more, r->item, r->n * sizeof *more);
		r->item = more;
		r->cap = cap;
	}
	r->item[r->n++] = x;
}

/* Append bytes of the template. Control tokens that are spelled there are these, as in all that transformers encodes. */
static void write_template(const kf_chat *c, parts *r, const char *s, size_t n)
{
	const kf_literals *all = c->t->kind == KF_TOK_BPE ? &c->t->bpe.all : &c->t->sp.all;
	size_t from = 0;

	for (size_t i = 0; i < n;) {
		const kf_literal *l = kf_literals_match(all, (const uint8_t *)s + i, n - i);

		if (!l || c->t->type[l->id] != KF_TT_CONTROL) {
			i++;
			continue;
		}
		if (i > from) add(r, (part){ .id = -1, .p = (const uint8_t *)s + from, .n = (uint32_t)(i - from) });
		add(r, (part){ .id = l->id });
		from = i += l->n;
	}
	if (n > from) add(r, (part){ .id = -1, .p = (const uint8_t *)s + from, .n = (uint32_t)(n - from) });
}

/* Append s with the message in the place of BODY; folded goes before the message's text. */
static void write_turn(const kf_chat *c, parts *r, const char *s, const part *message, const char *folded, const part *system)
{
	for (const char *from = s; *s; from = s) {
		const char *end = s + strcspn(s, "\1\3\4\5");
		part x = { .id = -1 };

		write_template(c, r, from, (size_t)(end - s));
		s = end;
		if (!*s) return;
		if (*s == *BODY) {
			if (folded) write_turn(c, r, folded, system, NULL, NULL);
			add(r, *message);
			r->reply_open = message->reply;
			s++;
			continue;
		}
		if (*s == 1) {
			end = strchr(s + 1, 2);
			for (int i = 0; i < c->n; i++)
				if (strncmp(c->spelling[i], s + 1, (size_t)(end - s)) == 0) x.id = c->id[i];
			s = end + 1;
		} else {
			x.id = *s == *BOS ? c->no_bos ? -1 : c->t->bos : c->t->eos;
			s++;
			if (x.id < 0) continue;
		}
		x.ends = r->reply_open;
		r->reply_open = false;
		add(r, x);
	}
}

static kf_status order(const kf_chat *c, const char *what, uint32_t i, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "message %u: %s; the chat template %s has no place for that", i + 1, what, c->tpl->name);
}

static kf_status render(const kf_chat *c, const kf_turn *turns, uint32_t n, const uint8_t *text, parts *r, kf_err *err)
{
	const kf_chat_template *tpl = c->tpl;
	part system = { .id = -1, .message = true };
	const char *folded = NULL;
	bool assistant_next = false;
	uint32_t first = 0;

	if (tpl->start) write_turn(c, r, tpl->start, NULL, NULL, NULL);
	if (tpl->no_system && (n == 0 || turns[0].role != KF_SYSTEM)) write_turn(c, r, tpl->no_system, NULL, NULL, NULL);
	for (uint32_t i = 0; i < n; text += turns[i++].bytes) {
		part m = { .id = -1, .p = text, .n = turns[i].bytes, .message = true, .reply = turns[i].role == KF_ASSISTANT };

		if (turns[i].role == KF_SYSTEM && !tpl->system) {
			if (i > 0 || !tpl->folded) return order(c, i ? "a system message that is not the first" : "a system message", i, err);
			system = m;
			folded = tpl->folded;
			first = 1;
			continue;
		}
		if (tpl->alternate && turns[i].role != KF_SYSTEM) {
			if ((turns[i].role == KF_ASSISTANT) != assistant_next)
				return order(c, i == first ? "the conversation does not begin with the user" :
					"user and assistant do not take turns", i, err);
			assistant_next = !assistant_next;
		}
		write_turn(c, r, turns[i].role == KF_SYSTEM ? tpl->system : turns[i].role == KF_USER ? tpl->user : tpl->assistant, &m,
			folded, &system);
		folded = NULL;
	}
	if (folded) return order(c, "a system message alone", 0, err);
	return r->failed ? kf_fail(err, KF_ENOMEM, "no memory to render a conversation") : KF_OK;
}

kf_status kf_chat_render(const kf_chat *c, const kf_turn *turns, uint32_t n, const uint8_t *text, kf_buf *out, kf_err *err)
{
	kf_arena arena;
	parts r = { .arena = &arena };
	kf_status rc;

	kf_arena_init(&arena);
	rc = render(c, turns, n, text, &r, err);
	for (uint32_t i = 0; i < r.n && rc == KF_OK; i++) {
		if (r.item[i].id < 0) kf_buf_put(out, r.item[i].p, r.item[i].n);
		else kf_buf_put(out, kf_tokenizer_piece(c->t, r.item[i].id), strlen(kf_tokenizer_piece(c->t, r.item[i].id)));
	}
	if (rc == KF_OK) rc = kf_buf_check(out, err);
	kf_arena_release(&arena);
	return rc;
}

/* ---- encoding ---- */

typedef struct {
	kf_sink sink;
	uint8_t *context;          /* (sink.cap + 1): grown beside it */
	uint32_t *skip;            /* (sink.cap) */
	uint32_t cap;
} encoder;

static bool put(encoder *e, int32_t id, uint32_t start, bool context, uint32_t skip)
{
	kf_sink_put(&e->sink, id, start);
	if (e->sink.failed) return false;
	if (e->cap < e->sink.cap + 1) {
		uint32_t cap = e->sink.cap + 1;
		uint8_t *more = kf_arena_alloc(e->sink.arena, cap, 1);
		uint32_t *skips = KF_ARENA_NEW(e->sink.arena, uint32_t, cap);

		if (!more || !skips) return false;
		if (e->cap) {
			memcpy(more, e->context, e->cap);
			memcpy(skips, e->skip, e->cap * sizeof *skips);
		}
		e->context = more;
		e->skip = skips;
		e->cap = cap;
	}
	e->context[e->sink.n - 1] = context;
	e->skip[e->sink.n - 1] = skip;
	return true;
}

/* Where byte x of the text between two control tokens stands: parts [i, end) make up that text, i's first byte is at. */
typedef struct {
	const part *item;
	uint32_t i, end;
	uint32_t at;               /* of item i in the text */
	uint32_t content;          /* bytes of messages before item i */
} place;

/* Bytes of messages before byte x, which is not before item i. */
static uint32_t content_before(place *w, uint32_t x)
{
	while (w->i < w->end && w->at + w->item[w->i].n <= x) {
		w->at += w->item[w->i].n;
		w->content += w->item[w->i].message ? w->item[w->i].n : 0;
		w->i++;
	}
	return w->content + (w->i < w->end && w->item[w->i].message ? x - w->at : 0);
}

/* The text of parts [from, to) between two control tokens. */
static kf_status encode_text(const kf_chat *c, encoder *e, const part *item, uint32_t from, uint32_t to, uint32_t *content,
	kf_err *err)
{
	kf_arena *arena = e->sink.arena;
	place here = { item, from, to, 0, *content }, next = here;
	uint8_t *text;
	uint32_t n = 0;
	kf_encoding enc;
	kf_status rc;

	for (uint32_t i = from; i < to; i++) n += item[i].n;
	if (!n) return KF_OK;
	if (!(text = kf_arena_alloc(arena, n, 1))) return kf_fail(err, KF_ENOMEM, "no memory to encode a conversation");
	n = 0;
	for (uint32_t i = from; i < to; n += item[i++].n)
		if (item[i].n) memcpy(text + n, item[i].p, item[i].n);
	rc = from ? kf_tokenizer_encode_later(c->t, text, n, arena, &enc, err) : kf_tokenizer_encode(c->t, text, n, false, arena, &enc, err);
	if (rc != KF_OK) return rc;
	for (uint32_t k = 0; k < enc.n; k++) {
		uint32_t a = enc.start[k], b = enc.start[k + 1], c0 = content_before(&here, a), c1, len, skip = 0;
		bool reply;
		place w = here;

		next = here;
		c1 = content_before(&next, b);
		/* of the template's bytes in front of the message's: pieces of the template are passed until one of a message comes */
		while (c1 > c0 && w.i < to && !item[w.i].message) w.at += item[w.i++].n;
		if (c1 > c0 && w.at > a) skip = w.at - a;
		/* a dummy prefix is the token's, but not the text's */
		if (c1 > c0 && k == 0 && kf_tokenizer_dummy_prefix(c->t)) {
			const uint8_t *bytes = kf_tokenizer_bytes(c->t, enc.ids[k], &len);

			skip += len > b - a && bytes[0] == ' ';
		}
		/* of a reply: all its message bytes are, or it spans none and lies within one */
		reply = w.i < to && item[w.i].reply && (c1 > c0 ? c1 - c0 <= item[w.i].n - (a > w.at ? a - w.at : 0) : a >= w.at);
		if (!put(e, enc.ids[k], c0, !reply, skip)) return kf_fail(err, KF_ENOMEM, "no memory to encode a conversation");
	}
	for (uint32_t i = from; i < to; i++) *content += item[i].message ? item[i].n : 0;
	return KF_OK;
}

kf_status kf_chat_encode(const kf_chat *c, const kf_turn *turns, uint32_t n_turns, const uint8_t *text, kf_arena *arena,
	kf_encoding *out, kf_err *err)
{
	parts r = { .arena = arena };
	encoder e = { .sink = { .arena = arena } };
	uint32_t content = 0, i = 0;
	uint8_t *last;
	kf_status rc;

	memset(out, 0, sizeof *out);
	if ((rc = render(c, turns, n_turns, text, &r, err)) != KF_OK) return rc;
	/* a BOS that the tokenizer adds is the runner's business */
	if (r.n && r.item[0].id >= 0 && r.item[0].id == kf_tokenizer_bos(c->t)) i = 1;
	out->no_bos = i == 0;
	while (i < r.n) {
		uint32_t to = i;

		if (r.item[i].id >= 0) {
			if (!put(&e, r.item[i].id, content, !r.item[i].ends, 0)) goto nomem;
			i++;
			continue;
		}
		while (to < r.n && r.item[to].id < 0) to++;
		if ((rc = encode_text(c, &e, r.item, i, to, &content, err)) != KF_OK) return rc;
		i = to;
	}
	/* the end; and a place for it when there was no token at all */
	if (!put(&e, -1, content, true, 0)) goto nomem;
	out->n = e.sink.n - 1;
	out->ids = e.sink.ids;
	out->start = e.sink.start;
	out->context = e.context;
	out->skip = e.skip;
	last = &e.context[out->n];
	*last = !(r.reply_open && r.n && r.item[r.n - 1].reply);
	if (out->no_bos || kf_tokenizer_bos(c->t) < 0) e.context[0] = 1;
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory to encode a conversation");
}

static bool only_spaces(const kf_tokenizer *t, int32_t id)
{
	uint32_t n, i = 0;
	const uint8_t *bytes = kf_tokenizer_bytes(t, id, &n);

	while (bytes && i < n && bytes[i] == ' ') i++;
	return bytes && n > 0 && i == n;
}

kf_status kf_chat_prompt(const kf_chat *c, const kf_turn *turns, uint32_t n_turns, const uint8_t *text, kf_arena *arena, kf_encoding *out,
	int *n, int32_t *end, kf_err *err)
{
	kf_turn *all = KF_ARENA_NEW(arena, kf_turn, (size_t)n_turns + 1);
	kf_status rc;
	uint32_t p;

	if (!all) return kf_fail(err, KF_ENOMEM, "no memory to render a conversation");
	memcpy(all, turns, n_turns * sizeof *all);
	all[n_turns] = (kf_turn){ 0, KF_ASSISTANT };   /* an empty reply */
	if ((rc = kf_chat_encode(c, all, n_turns + 1, text, arena, out, err)) != KF_OK) return rc;
	for (p = out->n; p > 0 && out->context[p];) p--;
	*end = p < out->n ? out->ids[p] : -1;
	while (p > 0 && only_spaces(c->t, out->ids[p - 1])) p--;
	*n = (int)p;
	return KF_OK;
}
