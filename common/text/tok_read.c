/* Tokenizers from Hugging Face folders: tokenizer.model where there is one, else tokenizer.json, with
 * what the smaller files beside them say about added and special tokens. */
#include <stdio.h>

#include "common/base/file.h"
#include "common/text/internal.h"

enum { FILE_MAX = 1 << 28, GAP_MAX = 1 << 16 };

typedef struct {
	const char *dir;
	json_t *tokenizer, *config, *special, *added, *generation, *model;
} folder;

/* A vocabulary in the making, in arena memory. */
typedef struct {
	kf_arena *arena;
	int32_t n, cap;
	const char **piece;      /* NULL: no token has this id */
	int32_t *type;
	uint8_t *flags;
	float *score;
	int64_t rows;            /* of the model's embedding, 0: not known */
	bool sp, json;           /* for SentencePiece; pieces are tokenizer.json's */
	bool normalizes;         /* it has a normalizer */
} draft;

/* ---- files ------------------------------------------------------------------------------ */

static kf_status read_json(const char *dir, const char *name, json_t **out, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_buf b = { 0 };
	json_error_t je;
	kf_status rc = kf_path_join(path, dir, name, err);

	*out = NULL;
	if (rc != KF_OK)
		return rc;
	if (!kf_exists(path))
		return KF_OK;
	if ((rc = kf_file_read(path, FILE_MAX, &b, err)) == KF_OK) {
		/* transformers writes "no limit" into tokenizer_config.json as 10^30, above any integer */
		size_t flags = strcmp(name, "tokenizer_config.json") ? 0 : JSON_DECODE_INT_AS_REAL;
		*out = json_loadb((const char *)b.data, b.len, flags, &je);
		if (!*out)
			rc = kf_fail(err, KF_EDATA, "%s: not valid JSON: %s (line %d)", path, je.text, je.line);
		else if (!json_is_object(*out))
			rc = kf_fail(err, KF_EDATA, "%s: not a JSON object", path);
	}
	kf_buf_release(&b);
	return rc;
}

static void folder_release(folder *f)
{
	json_decref(f->tokenizer);
	json_decref(f->config);
	json_decref(f->special);
	json_decref(f->added);
	json_decref(f->generation);
	json_decref(f->model);
}

/* ---- the draft ---------------------------------------------------------------------------- */

static kf_status no_memory(kf_err *err)
{
	return kf_fail(err, KF_ENOMEM, "no memory for a tokenizer's vocabulary");
}

/* Room for ids below n. */
static kf_status draft_grow(draft *d, int64_t n, kf_err *err)
{
	if (n > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "a token has the id %lld; at most %d are believed", (long long)n - 1, KF_VOCAB_MAX);
	if (n > d->cap) {
		size_t cap = (size_t)n + (size_t)n / 2 + 16;
		const char **piece = KF_ARENA_NEW(d->arena, const char *, cap);
		int32_t *type = KF_ARENA_NEW(d->arena, int32_t, cap);
		uint8_t *flags = KF_ARENA_NEW(d->arena, uint8_t, cap);
		float *score = KF_ARENA_NEW(d->arena, float, cap);
		if (!piece || !type || !flags || !score)
			return no_memory(err);
		for (int32_t i = 0; i < d->n; i++) {
			piece[i] = d->piece[i];
			type[i] = d->type[i];
			flags[i] = d->flags[i];
			score[i] = d->score[i];
		}
		d->piece = piece;
		d->type = type;
		d->flags = flags;
		d->score = score;
		d->cap = (int32_t)cap;
	}
	for (; d->n < n; d->n++) {
		d->piece[d->n] = NULL;
		d->type[d->n] = KF_TT_UNUSED;
		d->flags[d->n] = 0;
		d->score[d->n] = 0;
	}
	return KF_OK;
}

static bool one_character(const char *s)
{
	const size_t n = strlen(s);

	return kf_utf8_len((const uint8_t *)s, n) == n;
}

static int32_t find_piece(const draft *d, const char *s)
{
	for (int32_t i = 0; s && i < d->n; i++)
		if (d->piece[i] && strcmp(d->piece[i], s) == 0)
			return i;
	return -1;
}

/* An added token: its own or a new id. j: {"content", "special", "lstrip", ...}. */
static kf_status add_token(draft *d, int64_t id, const char *content, const json_t *j, bool special, kf_err *err)
{
	static const struct { const char *name; uint8_t flag; } names[] = {
		{ "lstrip", KF_AT_LSTRIP }, { "rstrip", KF_AT_RSTRIP }, { "single_word", KF_AT_SINGLE_WORD }
	};
	bool normalized, inner;
	kf_status rc;

	if (!content || !*content || id < 0 || id > d->n + (int64_t)GAP_MAX)
		return kf_fail(err, KF_EDATA, "an added token has no text, or the unbelievable id %lld", (long long)id);
	/* Gemma 3 has a token for pictures beyond the embedding of its models that see none: they know it no more than any other text */
	if (d->rows && id >= d->rows && id >= d->n)
		return KF_OK;
	normalized = d->json && d->normalizes && json_is_true(json_object_get(j, "normalized"));
	/* Gemma's lists runs of spaces, as ▁: the model makes them of spaces, by merges, and no text has them */
	if (d->json && d->sp && !special && !normalized && id < d->n && d->type[id] == KF_TT_NORMAL && strstr(content, "\xe2\x96\x81")
		&& d->piece[id] && strcmp(d->piece[id], content) == 0)
		return KF_OK;
	/* a character of the model's own, as "x" for padding: text has it all the same. Byte-level: kf_bpe_from_spec */
	if (d->sp && special && id < d->n && d->type[id] == KF_TT_NORMAL && d->piece[id] && one_character(content) && strcmp(d->piece[id], content) == 0)
		return KF_OK;
	if ((rc = draft_grow(d, id + 1, err)) != KF_OK)
		return rc;
	if (!(d->piece[id] = kf_arena_strdup(d->arena, content, strlen(content))))
		return no_memory(err);
	/* The model itself finds what its file calls user-defined, or tokenizer.json looks for in normalized text; the rest is cut out before. Special
	 * tokens are, too: where a normalizer prepends, Hugging Face's tokenizers would miss a normalized </s> that ends a word. */
	inner = d->json ? normalized : d->type[id] == KF_TT_USER && !(d->flags[id] & KF_AT_RAW);
	if (d->type[id] != KF_TT_UNKNOWN && d->type[id] != KF_TT_BYTE)
		d->type[id] = special ? KF_TT_CONTROL : KF_TT_USER;
	d->flags[id] = 0;
	for (int i = 0; i < 3; i++)
		if (json_is_true(json_object_get(j, names[i].name)))
			d->flags[id] |= names[i].flag;
	if (d->sp && d->type[id] == KF_TT_USER && (!inner || (d->flags[id] && !d->json)))
		d->flags[id] |= KF_AT_RAW;
	return KF_OK;
}

static const char *token_text(const json_t *j)
{
	return json_is_object(j) ? json_string_value(json_object_get(j, "content")) : json_string_value(j);
}

/* Every file that names added tokens. */
static kf_status added_tokens(const folder *f, draft *d, kf_err *err)
{
	static const char *const names[] = { "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
		"mask_token" };
	const json_t *list = json_object_get(f->tokenizer, "added_tokens"), *v;
	const char *key;
	size_t i;
	kf_status rc;

	json_array_foreach((json_t *)list, i, v) {
		const json_t *id = json_object_get(v, "id");
		if (!json_is_integer(id))
			return kf_fail(err, KF_EDATA, "%s/tokenizer.json: added token %zu has no id", f->dir, i);
		if ((rc = add_token(d, json_integer_value(id), token_text(v), v, json_is_true(json_object_get(v, "special")),
				err)) != KF_OK)
			return kf_context(err, rc, "%s/tokenizer.json", f->dir);
	}
	json_object_foreach(json_object_get(f->config, "added_tokens_decoder"), key, v) {
		char *end;
		long long id = strtoll(key, &end, 10);
		if (!*key || *end)
			return kf_fail(err, KF_EDATA, "%s/tokenizer_config.json: the id of an added token is \"%.40s\"", f->dir, key);
		if ((rc = add_token(d, id, token_text(v), v, json_is_true(json_object_get(v, "special")), err)) != KF_OK)
			return kf_context(err, rc, "%s/tokenizer_config.json", f->dir);
	}
	json_object_foreach(f->added, key, v) {
		if (!json_is_integer(v))
			return kf_fail(err, KF_EDATA, "%s/added_tokens.json: \"%.60s\" has no id", f->dir, key);
		int64_t id = json_integer_value(v);
		bool special = false;
		if (id >= 0 && id < d->n && d->piece[id] && strcmp(d->piece[id], key) == 0)
			continue; /* already said better */
		for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
			const char *s = token_text(json_object_get(f->special, names[k]));
			special |= s && strcmp(s, key) == 0;
		}
		const json_t *more = json_object_get(f->special, "additional_special_tokens"), *e;
		json_array_foreach((json_t *)more, i, e) {
			const char *s = token_text(e);
			special |= s && strcmp(s, key) == 0;
		}
		if ((rc = add_token(d, id, key, NULL, special, err)) != KF_OK)
			return kf_context(err, rc, "%s/added_tokens.json", f->dir);
	}
	/* what has one of these names is special, whatever is said of it elsewhere */
	for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
		for (int w = 0; w < 2; w++) {
			int32_t id = find_piece(d, token_text(json_object_get(w ? f->special : f->config, names[k])));
			if (id >= 0 && d->type[id] == KF_TT_USER && !(d->sp && one_character(d->piece[id]))) {
				d->type[id] = KF_TT_CONTROL;
				d->flags[id] &= (uint8_t)~KF_AT_RAW;
			}
		}
	for (int32_t k = 0; k < d->n; k++) {
		char gap[32];
		if (d->piece[k])
			continue;
		snprintf(gap, sizeof gap, "[PAD%d]", (int)k);
		if (!(d->piece[k] = kf_arena_strdup(d->arena, gap, strlen(gap))))
			return no_memory(err);
	}
	return KF_OK;
}

/* ---- what is added around a text ------------------------------------------------------------ */

/* The ids of the special tokens that a post-processor puts before and after a text; -1: none. */
typedef struct { int32_t before, after; } around;

/* The id that a TemplateProcessing means by a name, which need not be the token's. */
static kf_status template_id(const json_t *j, const draft *d, const char *name, int32_t *id, kf_err *err)
{
	const json_t *ids = json_object_get(json_object_get(json_object_get(j, "special_tokens"), name), "ids"), *v = json_array_get(ids, 0);

	if (json_array_size(ids) > 1)
		return kf_fail(err, KF_EUNSUPPORTED, "what its post_processor adds as \"%.60s\" is more than one token, which kfuse does not do", name);
	*id = json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < d->n ? (int32_t)json_integer_value(v) : ids ? -1 : find_piece(d, name);
	return *id >= 0 ? KF_OK : kf_fail(err, KF_EDATA, "the post_processor adds \"%.60s\", which is no token", name);
}

static kf_status read_template(const json_t *j, const draft *d, around *out, kf_err *err)
{
	const json_t *v;
	bool text = false;
	size_t i;
	kf_status rc;

	json_array_foreach(json_object_get(j, "single"), i, v) {
		const char *name = json_string_value(json_object_get(json_object_get(v, "SpecialToken"), "id"));
		int32_t *side = text ? &out->after : &out->before;
		if (json_object_get(v, "Sequence")) {
			if (text)
				return kf_fail(err, KF_EUNSUPPORTED, "its post_processor repeats the text, which kfuse does not do");
			text = true;
			continue;
		}
		if (!name)
			return kf_fail(err, KF_EDATA, "its post_processor has a part %zu that is neither text nor a special token", i);
		if (*side >= 0)
			return kf_fail(err, KF_EUNSUPPORTED, "its post_processor adds \"%.60s\" beside another token, and kfuse adds one at most before a text and "
				"one after it", name);
		if ((rc = template_id(j, d, name, side, err)) != KF_OK)
			return rc;
	}
	return text ? KF_OK : kf_fail(err, KF_EDATA, "its post_processor leaves out the text");
}

static kf_status read_post(const json_t *j, const draft *d, int depth, around *out, kf_err *err)
{
	const char *type = json_string_value(json_object_get(j, "type"));
	const json_t *v;
	size_t i;
	kf_status rc;

	if (!j || json_is_null(j) || (type && strcmp(type, "ByteLevel") == 0))
		return KF_OK;
	if (type && strcmp(type, "TemplateProcessing") == 0)
		return read_template(j, d, out, err);
	if (!type || strcmp(type, "Sequence") != 0 || depth > 8)
		return kf_fail(err, KF_EUNSUPPORTED, "its post_processor \"%.60s\" is not one that kfuse knows", type ? type : "");
	json_array_foreach(json_object_get(j, "processors"), i, v)
		if ((rc = read_post(v, d, depth + 1, out, err)) != KF_OK)
			return rc;
	return KF_OK;
}

/* A special token of the small files: by name in tokenizer_config.json or special_tokens_map.json, by id in the others (*by_id). */
static int32_t special_id(const folder *f, const draft *d, const char *name, bool *by_id)
{
	const json_t *where[] = { f->config, f->special };
	const json_t *numbers[] = { f->generation, f->model };
	char key[32];

	*by_id = false;
	for (int i = 0; i < 2; i++) {
		snprintf(key, sizeof key, "%s_token", name);
		int32_t id = find_piece(d, token_text(json_object_get(where[i], key)));
		if (id >= 0)
			return id;
	}
	for (int i = 0; i < 2; i++) {
		snprintf(key, sizeof key, "%s_token_id", name);
		const json_t *v = json_object_get(numbers[i], key);
		if (json_is_array(v))
			v = json_array_get(v, 0);
		*by_id = json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < d->n;
		if (*by_id)
			return (int32_t)json_integer_value(v);
	}
	return -1;
}

/* Whether a class of transformers goes by add_bos_token and add_eos_token where there is a tokenizer.json, and whether it adds a BOS
 * where they are not said. The others leave both to the post-processor. */
static bool hears(const char *class, bool *bos)
{
	*bos = class && (strstr(class, "Llama") || strstr(class, "Gemma") || strstr(class, "Cohere"));
	return *bos || (class && strstr(class, "GPTNeoX"));
}

static kf_status specials(const folder *f, const draft *d, kf_tokenizer *t, kf_err *err)
{
	static const char *const names[] = { "bos", "eos", "pad", "unk" }, *const keys[] = { "bos_token", "eos_token", "pad_token", "unk_token" };
	int32_t *ids[] = { &t->bos, &t->eos, &t->pad, &t->unk };
	const char *class = json_string_value(json_object_get(f->config, "tokenizer_class"));
	const json_t *post = json_object_get(f->tokenizer, "post_processor");
	bool usual, heard = hears(class, &usual) || !f->tokenizer;
	around said = { -1, -1 };
	kf_status rc = read_post(post, d, 0, &said, err);

	if (rc != KF_OK && !heard)
		return rc;
	if (rc != KF_OK)
		said = (around){ -1, -1 };       /* transformers puts its own in its place */
	for (int i = 0; i < 4; i++) {
		bool by_id;
		int32_t id = special_id(f, d, names[i], &by_id);
		if (id >= 0)
			*ids[i] = id;
		if (by_id && (f->config || f->special))
			t->unnamed |= (uint8_t)(1 << i);
		if ((id < 0 || by_id) && json_is_null(json_object_get(f->config, keys[i])))
			t->none |= (uint8_t)(1 << i);
	}
	for (int i = 0; i < 2; i++) { /* BOS, then EOS */
		const json_t *says = json_object_get(f->config, i ? "add_eos_token" : "add_bos_token");
		const int32_t tmpl = i ? said.after : said.before;
		bool add;
		if (!heard) {
			add = tmpl >= 0;
		} else if (i == 0 && tmpl < 0 && json_is_null(json_object_get(f->config, "bos_token"))) {
			add = false; /* whatever the model's files call so */
		} else if (says) {
			add = json_is_true(says);
		} else if (f->tokenizer) {
			add = i == 0 && usual;
		} else { /* a tokenizer.model alone: Llama's default; T5 and its like end texts instead */
			bool t5 = class && (strstr(class, "T5") || strstr(class, "Pegasus") || strstr(class, "Albert"));
			add = i ? t5 : !t5;
		}
		if (add && tmpl >= 0)
			*ids[i] = tmpl;
		*(i ? &t->add_eos : &t->add_bos) = add && *ids[i] >= 0;
	}
	if (class && strlen(class) > 4 && strcmp(class + strlen(class) - 4, "Fast") == 0
		&& strcmp(class, "PreTrainedTokenizerFast") != 0) { /* either name loads either */
		t->hf_class = kf_strdup(class);
		if (t->hf_class)
			t->hf_class[strlen(class) - 4] = 0;
	} else if (class) {
		t->hf_class = kf_strdup(class);
	}
	return class && !t->hf_class ? no_memory(err) : KF_OK;
}

/* Whether a JSON object is of a type, or holds one that is in a list. */
static bool has_type(const json_t *j, const char *list, const char *want)
{
	const char *type = json_string_value(json_object_get(j, "type"));
	const json_t *v;
	size_t i;

	if (type && strcmp(type, want) == 0)
		return true;
	json_array_foreach(json_object_get(j, list), i, v) {
		type = json_string_value(json_object_get(v, "type"));
		if (type && strcmp(type, want) == 0)
			return true;
	}
	return false;
}

/* ---- tokenizer.model ---------------------------------------------------------------------- */

/* Whether only the beginning of a text gets a dummy prefix, and not what follows a control token: what transformers calls not
 * legacy. A tokenizer.json beside it that prepends knows no such difference, and transformers 4 goes by that. */
static kf_status prefix_first(const folder *f, bool *out, kf_err *err)
{
	json_t *beside = NULL;
	kf_status rc;

	*out = json_is_false(json_object_get(f->config, "legacy"));
	if (!*out)
		return KF_OK;
	if ((rc = read_json(f->dir, "tokenizer.json", &beside, err)) == KF_OK)
		*out = !has_type(json_object_get(beside, "normalizer"), "normalizers", "Prepend");
	json_decref(beside);
	return rc;
}

static kf_status open_model(folder *f, const char *path, draft *d, kf_tokenizer *t, kf_err *err)
{
	const char *class = json_string_value(json_object_get(f->config, "tokenizer_class"));
	kf_buf b = { 0 };
	kf_sp_pieces p;
	kf_status rc = kf_file_read(path, FILE_MAX, &b, err);

	if (rc == KF_OK)
		rc = kf_context(err, kf_sp_read_proto(t, b.data, b.len, d->arena, &p, err), "%s", path);
	if (rc == KF_OK && class && strstr(class, "Llama") && json_is_false(json_object_get(f->config, "add_prefix_space")))
		t->sp.dummy_prefix = false;      /* whatever the model says */
	if (rc == KF_OK)
		rc = draft_grow(d, p.n, err);
	if (rc == KF_OK) {
		for (int32_t i = 0; i < p.n; i++) {
			d->piece[i] = p.piece[i];
			d->type[i] = p.type[i];
			d->score[i] = p.score[i];
		}
		d->sp = true;
		if ((rc = added_tokens(f, d, err)) == KF_OK && (rc = specials(f, d, t, err)) == KF_OK)
			rc = kf_context(err, kf_sp_build(t, d->n, d->piece, d->type, d->flags, d->score, err), "%s", path);
		if (rc == KF_OK && t->sp.own && t->sp.dummy_prefix)
			rc = prefix_first(f, &t->sp.prefix_first, err);
	}
	kf_buf_release(&b);
	return rc;
}

/* ---- tokenizer.json ---------------------------------------------------------------------------- */

/* Merges as "left right"; Hugging Face writes strings or pairs. */
static kf_status read_merges(const json_t *list, kf_arena *a, const char ***out, int32_t *n, kf_err *err)
{
	const json_t *v;
	size_t i, size = json_array_size(list);

	if (!json_is_array(list) || size > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "its model has no merges, or more than %d", KF_VOCAB_MAX);
	const char **m = KF_ARENA_NEW(a, const char *, size + 1);
	if (!m)
		return no_memory(err);
	json_array_foreach((json_t *)list, i, v) {
		const char *l = json_string_value(json_array_get(v, 0)), *r = json_string_value(json_array_get(v, 1));
		if (json_is_string(v)) {
			m[i] = json_string_value(v);
		} else if (l && r && json_array_size(v) == 2) {
			size_t nl = strlen(l), nr = strlen(r);
			char *s = KF_ARENA_NEW(a, char, nl + nr + 2);
			if (!s)
				return no_memory(err);
			memcpy(s, l, nl);
			s[nl] = ' ';
			memcpy(s + nl + 1, r, nr + 1);
			m[i] = s;
		} else {
			return kf_fail(err, KF_EDATA, "merge %zu is no pair of pieces", i);
		}
	}
	*out = m;
	*n = (int32_t)size;
	return KF_OK;
}

/* NFC, or a sequence of it, or nothing. */
static kf_status read_normalizer(const json_t *j, bool *nfc, kf_err *err)
{
	const char *type = json_string_value(json_object_get(j, "type"));
	const json_t *v;
	size_t i;

	if (!j || json_is_null(j))
		return KF_OK;
	if (type && strcmp(type, "NFC") == 0) {
		*nfc = true;
		return KF_OK;
	}
	if (!type || strcmp(type, "Sequence") != 0)
		return kf_fail(err, KF_EUNSUPPORTED, "its normalizer \"%.60s\" is not one that kfuse knows", type ? type : "");
	json_array_foreach(json_object_get(j, "normalizers"), i, v) {
		type = json_string_value(json_object_get(v, "type"));
		if (!type || strcmp(type, "NFC") != 0)
			return kf_fail(err, KF_EUNSUPPORTED, "its normalizer \"%.60s\" is not one that kfuse knows", type ? type : "");
		*nfc = true;
	}
	return KF_OK;
}

/* What kfuse does not do of added tokens that are looked for in normalized text. marks: a Metaspace puts ▁ in front of what they leave. A character
 * that the model does not have would, where it is no such token (prepends: without ▁ before it), be found by the merges, which begin at characters. */
static kf_status check_normalized(const draft *d, const json_t *vocab, bool marks, bool prepends, kf_err *err)
{
	for (int32_t i = 0; i < d->n; i++) {
		const char *p = d->piece[i];

		if (d->type[i] != KF_TT_USER || d->flags[i] & KF_AT_RAW)
			continue;
		if (marks || ((prepends || d->flags[i] & KF_AT_SINGLE_WORD) && one_character(p) && !json_object_get(vocab, p)))
			return kf_fail(err, KF_EUNSUPPORTED, "its added token \"%.60s\" is \"normalized\": true, which kfuse does not do %s; set it to false, here and in "
				"tokenizer_config.json, if the token is to be found wherever it stands", p,
				marks ? "beside a normalizer and a Metaspace pre_tokenizer" : "for a single character that the model does not have");
	}
	return KF_OK;
}

/* The two normalizers and the Metaspace that stand for SentencePiece: spaces become ▁, perhaps with one in front. */
static kf_status read_sp_rules(const json_t *norm, const json_t *pre, const json_t *vocab, const draft *d, kf_sp *sp, kf_err *err)
{
	const json_t *one[1] = { norm }, *list = json_object_get(norm, "normalizers");
	size_t n = list ? json_array_size(list) : norm && !json_is_null(norm);
	bool spaces = false, marks = false;

	for (size_t i = 0; i < n; i++) {
		const json_t *v = list ? json_array_get(list, i) : one[0];
		const char *type = json_string_value(json_object_get(v, "type"));
		const char *content = json_string_value(json_object_get(v, "content"));
		const char *from = json_string_value(json_object_get(json_object_get(v, "pattern"), "String"));
		const char *put = json_string_value(json_object_get(v, "prepend"));
		if (type && strcmp(type, "Prepend") == 0 && put && strcmp(put, "\xe2\x96\x81") == 0)
			sp->dummy_prefix = true;
		else if (type && strcmp(type, "Replace") == 0 && from && strcmp(from, " ") == 0 && content
			&& strcmp(content, "\xe2\x96\x81") == 0)
			spaces = true;
		else
			return kf_fail(err, KF_EUNSUPPORTED, "its normalizer \"%.60s\" is not one that kfuse knows", type ? type : "");
	}
	if (has_type(pre, "pretokenizers", "Metaspace")) {
		const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
		if (json_is_true(json_object_get(pre, "split")) || !json_object_get(pre, "split")
			|| json_object_get(pre, "pretokenizers"))
			return kf_fail(err, KF_EUNSUPPORTED, "its Metaspace pre_tokenizer splits words, which kfuse does not do");
		spaces = true;
		marks = scheme ? strcmp(scheme, "never") != 0 : !json_is_false(json_object_get(pre, "add_prefix_space"));
		/* before the Prepend of a normalizer, where there are both, it finds its mark there already */
		if (marks && !sp->dummy_prefix) {
			sp->dummy_prefix = sp->prefix_unless_space = true;
			sp->prefix_first = scheme && strcmp(scheme, "first") == 0;
		}
	} else if (pre && !json_is_null(pre)) {
		/* Gemma's: a split at spaces when there are none left */
		const char *at = json_string_value(json_object_get(json_object_get(pre, "pattern"), "String"));
		if (!spaces || !at || strcmp(at, " ") != 0)
			return kf_fail(err, KF_EUNSUPPORTED, "its pre_tokenizer is not one that kfuse knows beside byte_fallback");
	}
	return spaces ? check_normalized(d, vocab, marks, sp->dummy_prefix, err)
		: kf_fail(err, KF_EUNSUPPORTED, "it has byte_fallback, but spaces do not become \xe2\x96\x81");
}

static kf_status open_json(folder *f, draft *d, kf_tokenizer *t, kf_err *err)
{
	const json_t *model = json_object_get(f->tokenizer, "model"), *v;
	const json_t *vocab = json_object_get(model, "vocab"), *pre = json_object_get(f->tokenizer, "pre_tokenizer");
	const json_t *norm = json_object_get(f->tokenizer, "normalizer"), *drop = json_object_get(model, "dropout");
	const char *type = json_string_value(json_object_get(model, "type")), *key, *s;
	const char *unk = json_string_value(json_object_get(model, "unk_token")), **merges = NULL;
	const char *class = json_string_value(json_object_get(f->config, "tokenizer_class"));
	bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
	int32_t n_merges = 0;
	kf_status rc;

	if (!model || (!type && !json_is_object(vocab)))
		return kf_fail(err, KF_EDATA, "it has no model with a vocabulary");
	if (type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges"))
		return kf_fail(err, KF_EUNSUPPORTED, "its model is of type \"%.60s\"; kfuse reads BPE", type ? type : "unknown");
	if (!json_is_object(vocab))
		return kf_fail(err, KF_EDATA, "its model has no vocabulary");
	if (json_is_number(drop) && json_number_value(drop) > 0)
		return kf_fail(err, KF_EUNSUPPORTED, "its model drops merges at random (dropout)");
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "end_of_word_suffix" : "continuing_subword_prefix";
		if ((s = json_string_value(json_object_get(model, name))) && *s)
			return kf_fail(err, KF_EUNSUPPORTED, "its model has %s, which kfuse does not do", name);
	}
	if (fallback && json_is_true(json_object_get(model, "ignore_merges")))
		return kf_fail(err, KF_EUNSUPPORTED, "its model has ignore_merges beside byte_fallback, which kfuse does not do");
	size_t count = json_object_size(vocab);
	if (count > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "it has %zu tokens; at most %d are believed", count, KF_VOCAB_MAX);
	json_object_foreach((json_t *)vocab, key, v) {
		int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
		if (id < 0 || id > (int64_t)count + GAP_MAX)
			return kf_fail(err, KF_EDATA, "token \"%.60s\" has no believable id", key);
		if ((rc = draft_grow(d, id + 1, err)) != KF_OK)
			return rc;
		if (d->piece[id])
			return kf_fail(err, KF_EDATA, "tokens \"%.60s\" and \"%.60s\" have the same id", d->piece[id], key);
		d->piece[id] = key;
		d->type[id] = KF_TT_NORMAL;
	}
	d->sp = fallback;
	d->json = true;
	d->normalizes = norm && !json_is_null(norm);
	if ((rc = read_merges(json_object_get(model, "merges"), d->arena, &merges, &n_merges, err)) != KF_OK
		|| (rc = added_tokens(f, d, err)) != KF_OK)
		return rc;
	if (fallback) {
		int32_t id = find_piece(d, unk);
		if (id < 0)
			return kf_fail(err, KF_EDATA, "its model has byte_fallback, but its unk_token is no token");
		t->kind = KF_TOK_SENTENCEPIECE;
		d->type[id] = KF_TT_UNKNOWN;
		t->sp.bpe = t->sp.ranked = true;
		for (int32_t i = 0; i < d->n; i++)
			if (d->type[i] == KF_TT_NORMAL && kf_byte_piece(d->piece[i]) >= 0)
				d->type[i] = KF_TT_BYTE;
		if ((rc = read_sp_rules(norm, pre, vocab, d, &t->sp, err)) != KF_OK || (rc = specials(f, d, t, err)) != KF_OK
			|| (rc = kf_sp_build(t, d->n, d->piece, d->type, d->flags, d->score, err)) != KF_OK)
			return rc;
		if (!t->sp.byte_fallback)
			return kf_fail(err, KF_EDATA, "its model has byte_fallback, but no tokens for bytes");
		return kf_merges_read(t, merges, n_merges, err);
	}
	if (!has_type(pre, "pretokenizers", "ByteLevel"))
		return kf_fail(err, KF_EUNSUPPORTED, "its pre_tokenizer is not byte-level, and its model has no byte_fallback");
	if ((rc = read_normalizer(norm, &t->bpe.nfc, err)) != KF_OK || (rc = kf_pretok_json(&t->bpe.pretok, pre, err)) != KF_OK
		|| (rc = specials(f, d, t, err)) != KF_OK)
		return rc;
	/* of a ByteLevel that is all there is transformers has it from there, where it is said; these classes say no by not saying it */
	v = json_object_get(f->config, "add_prefix_space");
	if (strcmp(json_string_value(json_object_get(pre, "type")), "ByteLevel") == 0
		&& (json_is_boolean(v) || (class && (strstr(class, "GPT2") || strstr(class, "GPTNeoX")))))
		t->bpe.pretok.prefix_space = json_is_true(v);
	if (unk && (t->bpe.unk = find_piece(d, unk)) < 0)
		return kf_fail(err, KF_EDATA, "its unk_token \"%.60s\" is no token", unk);
	t->bpe.fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
	t->bpe.ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
	kf_vocab_spec spec = { .n = d->n, .pieces = d->piece, .types = d->type, .n_merges = n_merges, .merges = merges };
	return kf_bpe_from_spec(t, &spec, d->flags, err);
}

kf_status kf_tokenizer_open_dir(const char *dir, kf_tokenizer **out, kf_err *err)
{
	char path[KF_PATH_MAX];
	folder f = { .dir = dir };
	kf_arena arena;
	draft d = { .arena = &arena };
	kf_tokenizer *t = NULL;
	kf_status rc;

	*out = NULL;
	kf_arena_init(&arena);
	if ((rc = kf_path_join(path, dir, "tokenizer.model", err)) != KF_OK)
		goto out;
	bool model = kf_exists(path);
	if ((rc = read_json(dir, "tokenizer_config.json", &f.config, err)) != KF_OK
		|| (rc = read_json(dir, "special_tokens_map.json", &f.special, err)) != KF_OK
		|| (rc = read_json(dir, "added_tokens.json", &f.added, err)) != KF_OK
		|| (rc = read_json(dir, "generation_config.json", &f.generation, err)) != KF_OK
		|| (rc = read_json(dir, "config.json", &f.model, err)) != KF_OK
		|| (!model && (rc = read_json(dir, "tokenizer.json", &f.tokenizer, err)) != KF_OK))
		goto out;
	if (!model && !f.tokenizer) {
		rc = kf_fail(err, KF_ENOTFOUND, "%s: holds no tokenizer (neither tokenizer.model nor tokenizer.json)", dir);
		goto out;
	}
	const json_t *text = json_object_get(f.model, "text_config");
	d.rows = json_integer_value(json_object_get(text ? text : f.model, "vocab_size"));
	if (!(t = kf_tokenizer_blank(model ? KF_TOK_SENTENCEPIECE : KF_TOK_BPE))) {
		rc = no_memory(err);
		goto out;
	}
	if (model)
		rc = open_model(&f, path, &d, t, err);
	else
		rc = kf_context(err, open_json(&f, &d, t, err), "%s/tokenizer.json", dir);
	if (rc == KF_OK)
		rc = kf_tokenizer_read_templates(t, dir, f.config, err);
	if (rc == KF_OK && !(t->settings = kf_tokenizer_settings(f.config)))
		rc = no_memory(err);
	if (rc == KF_OK)
		rc = kf_tokenizer_finish(t, err);
out:
	folder_release(&f);
	kf_arena_release(&arena);
	if (rc != KF_OK)
		kf_tokenizer_free(t);
	else
		*out = t;
	return rc;
}
