#include "inspect/inspect.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/lock.h"
#include "common/store/json.h"
#include "common/store/store.h"
#include "common/text/tokenizer.h"
#include "common/text/utf8.h"
#include "inspect/map.h"

struct job {
	const kf_inspect_opts *o;
	FILE *out;
	kf_set *set;
	kf_set_kind kind;
	kf_tokenizer *tokenizer;
	kf_arena arena;
	kf_err *err;
};

/* ---- the summary ---- */

struct domain { char *name; uint64_t docs, bytes, tokens; };
struct domains { struct domain *d; size_t n, cap; };

static kf_status count_domain(void *arg, const kf_head_n *h, kf_err *err)
{
	struct domains *all = arg;
	size_t i = all->n;

	/* domains are few, and documents of one come together: look at the newest first */
	while (i > 0 && strcmp(all->d[i - 1].name, h->head.domain)) i--;
	if (i == 0) {
		if (all->n == all->cap) {
			size_t cap = all->cap ? all->cap * 2 : 16;
			struct domain *d = realloc(all->d, cap * sizeof *d);

			if (!d) return kf_fail(err, KF_ENOMEM, "no memory for %zu domains", cap);
			all->d = d;
			all->cap = cap;
		}
		memset(&all->d[all->n], 0, sizeof *all->d);
		if (!(all->d[all->n].name = kf_strdup(h->head.domain))) return kf_fail(err, KF_ENOMEM, "no memory for a domain");
		i = ++all->n;
	}
	all->d[i - 1].docs++;
	all->d[i - 1].bytes += h->head.bytes;
	all->d[i - 1].tokens += h->n;
	return KF_OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct domain *)a)->name, ((const struct domain *)b)->name);
}

static void grouped(char out[40], uint64_t v) /* 1234567 -> 1,234,567 */
{
	char digits[24];
	int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)v), at = 0;

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0) out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = 0;
}

static void line(FILE *out, const char *name, uint64_t v)
{
	char s[40];

	grouped(s, v);
	fprintf(out, "%-14s %s\n", name, s);
}

static void json_line(FILE *out, const char *name, const json_t *v)
{
	char *s = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(15)) : NULL;

	if (s) fprintf(out, "%-14s %s\n", name, s);
	free(s);
}

static kf_status each_shard(struct job *j, kf_status (*fn)(struct job *j, kf_shard *s, void *arg), void *arg)
{
	kf_status rc = KF_OK;

	for (int i = 0; i < kf_set_shards(j->set) && rc == KF_OK && !ferror(j->out); i++) {
		kf_shard *s;

		if ((rc = kf_shard_open(j->set, i, &s, j->err)) != KF_OK) break;
		rc = fn(j, s, arg);
		kf_shard_close(s);
	}
	return rc;
}

static kf_status domains_of(struct job *j, kf_shard *s, void *arg)
{
	return kf_shard_heads(s, count_domain, arg, j->err);
}

static kf_status summary(struct job *j)
{
	const json_t *m = kf_set_manifest(j->set), *options = json_object_get(m, "options"), *in, *v;
	struct domains all = { 0 };
	uint64_t disk = kf_set_disk(j->set), tokens = kf_set_tokens(j->set), bytes = kf_set_bytes(j->set), shards = 0;
	const char *name;
	size_t i;
	kf_status rc = each_shard(j, domains_of, &all);
	FILE *out = j->out;

	if (rc != KF_OK) goto done;
	for (int s = 0; s < kf_set_shards(j->set); s++) shards += kf_set_shard_disk(j->set, s);
	fprintf(out, "%-14s %s\n", "set", kf_set_dir(j->set));
	fprintf(out, "%-14s %s, format %d, %s\n", "kind", kf_set_kind_name(j->kind),
		(int)json_integer_value(json_object_get(m, "format")), kf_set_f32(j->set) ? "f32" : "packed");
	fprintf(out, "%-14s %s %s\n", "made by", json_string_value(json_object_get(m, "program")),
		json_string_value(json_object_get(m, "version")));
	json_object_foreach((json_t *)(uintptr_t)options, name, v) {
		char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

		fprintf(out, "%-14s --%s %s\n", "option", name, s ? s : "?");
		free(s);
	}
	json_array_foreach(json_object_get(m, "inputs"), i, in)
		fprintf(out, "%-14s %s %s, %s\n", "from", json_string_value(json_object_get(in, "role")),
			json_string_value(json_object_get(in, "name")), json_string_value(json_object_get(in, "fingerprint")));
	json_line(out, "info", kf_set_info(j->set));
	json_line(out, "stats", json_object_get(m, "stats"));
	fprintf(out, "%-14s %s\n", "identity", json_string_value(json_object_get(m, "identity")));
	fprintf(out, "%-14s %s\n", "content", json_string_value(json_object_get(m, "content")));
	line(out, "shards", (uint64_t)kf_set_shards(j->set));
	line(out, "documents", kf_set_docs(j->set));
	if (j->kind != KF_SET_CORPUS) line(out, "tokens", tokens);
	line(out, "bytes of text", bytes);
	line(out, "bytes on disk", disk);
	if (tokens)
		fprintf(out, "%-14s %.2f (%.2f with manifest and tokenizer)\n", "bytes a token", (double)shards / (double)tokens,
			(double)disk / (double)tokens);
	qsort(all.d, all.n, sizeof *all.d, by_name);
	for (i = 0; i < all.n; i++) {
		fprintf(out, "%-14s ", i ? "" : "domains");
		kf_json_string(out, (const uint8_t *)all.d[i].name, strlen(all.d[i].name));
		fprintf(out, ": %llu documents, %llu bytes", (unsigned long long)all.d[i].docs, (unsigned long long)all.d[i].bytes);
		if (j->kind != KF_SET_CORPUS) fprintf(out, ", %llu tokens", (unsigned long long)all.d[i].tokens);
		putc('\n', out);
	}
done:
	for (i = 0; i < all.n; i++) kf_free(all.d[i].name);
	free(all.d);
	return rc;
}

/* ---- sizes by plane ---- */

struct sizes { uint64_t plane[KF_MAX_PLANES], other; const char *const *names; };

static kf_status add_sizes(struct job *j, kf_shard *s, void *arg)
{
	struct sizes *z = arg;

	z->names = s->codec->planes;
	return kf_shard_plane_sizes(s, z->plane, &z->other, j->err);
}

static kf_status sizes(struct job *j)
{
	struct sizes z = { .other = 0 };
	uint64_t per = j->kind == KF_SET_CORPUS ? kf_set_bytes(j->set) : kf_set_tokens(j->set);
	double unit = per ? (double)per : 1, sum = 0;
	kf_status rc = each_shard(j, add_sizes, &z);

	if (rc != KF_OK) return rc;
	fprintf(j->out, "%-24s %12s %10s\n", "plane", "bytes", j->kind == KF_SET_CORPUS ? "a byte" : "a token");
	for (int i = 0; z.names[i]; i++) {
		const char *name = z.names[i];
		uint64_t bytes = 0;
		int first = 0;

		/* planes of one meaning, split by context, have one name */
		while (strcmp(z.names[first], name) != 0) first++;
		for (int k = i; first == i && z.names[k]; k++)
			if (strcmp(z.names[k], name) == 0) bytes += z.plane[k];
		if (bytes) fprintf(j->out, "%-24s %12llu %10.3f\n", name, (unsigned long long)bytes, (double)bytes / unit);
		sum += (double)bytes;
	}
	fprintf(j->out, "%-24s %12llu %10.3f\n", "LMDB, headers", (unsigned long long)z.other, (double)z.other / unit);
	fprintf(j->out, "%-24s %12.0f %10.3f\n", "all", sum + (double)z.other, (sum + (double)z.other) / unit);
	return KF_OK;
}

/* ---- documents for people ---- */

static void piece(struct job *j, int32_t id)
{
	uint32_t n = 0;
	const uint8_t *b = j->tokenizer ? kf_tokenizer_bytes(j->tokenizer, id, &n) : NULL;

	if (n) kf_json_string(j->out, b, n);
	else if (j->tokenizer && id < kf_tokenizer_size(j->tokenizer)) fputs(kf_tokenizer_piece(j->tokenizer, id), j->out);
	else fprintf(j->out, "#%d", id);
}

static void candidates(struct job *j, const int32_t *ids, const float *lp, uint32_t n, uint32_t most)
{
	for (uint32_t i = 0; i < n && i < most; i++) {
		fputs(i ? "  " : "", j->out);
		piece(j, ids[i]);
		fprintf(j->out, " %.2f", lp[i]);
	}
	if (n > most) fprintf(j->out, "  and %u more", n - most);
	putc('\n', j->out);
}

/* Text that somebody else has written: without what a terminal obeys, but lines and tabs. (--json has it as it is.) */
static void put(FILE *out, const uint8_t *p, size_t n)
{
	for (size_t l; n; p += l, n -= l) {
		const bool shown = *p == '\n' || *p == '\t';

		if (!shown && (l = kf_control(p, n))) fputs("\xef\xbf\xbd", out);
		else putc(*p, out), l = 1;
	}
}

static void title(struct job *j, const kf_dochead *h)
{
	fprintf(j->out, "document %llu, id \"", (unsigned long long)h->doc);
	put(j->out, (const uint8_t *)h->id, strlen(h->id));
	fprintf(j->out, "\", piece %u, domain \"%s\", %u bytes\n", h->piece, h->domain, h->bytes);
}

static void show_text(struct job *j, const uint8_t *text, size_t n)
{
	put(j->out, text, n);
	if (n && text[n - 1] != '\n') putc('\n', j->out);
}

static void show_corpus(struct job *j, const kf_corpus_rec *r)
{
	const uint8_t *at = r->text;

	if (!r->n_turns) show_text(j, at, r->head.bytes);
	for (uint32_t i = 0; i < r->n_turns; at += r->turns[i++].bytes) {
		fprintf(j->out, "-- %s\n", kf_role_name(r->turns[i].role));
		show_text(j, at, r->turns[i].bytes);
	}
}

static void columns(struct job *j)
{
	fprintf(j->out, "%5s %6s %7s  token, and its best candidates with their log-probabilities\n", "p", "byte", "ce");
}

/* Position p of n: the token, where it starts, what it costs. */
static void position(struct job *j, uint32_t p, uint32_t n, const uint32_t *start, const int32_t *tokens, const float *ce)
{
	fprintf(j->out, "%5u %6u ", p, start[p]);
	if (p < n && ce[p] == ce[p]) fprintf(j->out, "%7.3f  ", ce[p]);
	else fprintf(j->out, "%7s  ", "-");
	if (p < n) piece(j, tokens[p]);
	else fputs("(end)", j->out);
	fputs(" | ", j->out);
}

static void show_logits(struct job *j, const kf_logits_rec *r)
{
	title(j, &r->head);
	columns(j);
	for (uint32_t p = 0; p <= r->n; p++) {
		position(j, p, r->n, r->start, r->tokens, r->ce);
		candidates(j, r->top_ids + (size_t)p * r->k, r->top_lp + (size_t)p * r->k, kf_predicted(r, p) ? r->k : 0, 5);
	}
}

static void show_dist(struct job *j, const kf_dist_rec *r)
{
	title(j, &r->head);
	columns(j);
	for (uint32_t p = 0; p <= r->n; p++) {
		position(j, p, r->n, r->start, r->tokens, r->ce);
		if (r->tail[p] == r->tail[p]) fprintf(j->out, "(tail %.3f) ", r->tail[p]);
		candidates(j, r->ids + r->off[p], r->lp + r->off[p], r->off[p + 1] - r->off[p], 5);
	}
}

/* The next document of s, to out as asked for. KF_END after the last. */
static kf_status one(struct job *j, kf_shard *s)
{
	bool json = j->o->json, print = !j->o->verify && !j->o->repair;
	kf_corpus_rec c;
	kf_logits_rec l;
	kf_dist_rec d;
	kf_status rc;

	kf_arena_reset(&j->arena);
	switch (j->kind) {
	case KF_SET_CORPUS:
		if ((rc = kf_shard_next_corpus(s, &j->arena, &c, j->err)) != KF_OK || !print) return rc;
		if (json) {
			kf_json_corpus(j->out, &c);
		} else {
			title(j, &c.head);
			show_corpus(j, &c);
		}
		return rc;
	case KF_SET_LOGITS:
		if ((rc = kf_shard_next_logits(s, &j->arena, &l, j->err)) != KF_OK || !print) return rc;
		if (json) kf_json_logits(j->out, &l, j->o->path ? KF_JSON_PATH : 0);
		else show_logits(j, &l);
		return rc;
	default:
		if ((rc = kf_shard_next_dist(s, &j->arena, &d, j->err)) != KF_OK || !print) return rc;
		if (json) kf_json_dist(j->out, &d, 0);
		else show_dist(j, &d);
		return rc;
	}
}

static kf_status all_of(struct job *j, kf_shard *s, void *arg)
{
	kf_status rc = KF_OK;

	(void)arg;
	while (rc == KF_OK && !ferror(j->out)) rc = one(j, s);
	return rc == KF_END ? KF_OK : rc;
}

static kf_status find_doc(struct job *j)
{
	for (int i = 0; i < kf_set_shards(j->set); i++) {
		kf_shard *s;
		kf_status rc;

		if ((rc = kf_shard_open(j->set, i, &s, j->err)) != KF_OK) return rc;
		if ((rc = kf_shard_find(s, (uint64_t)j->o->doc, j->err)) == KF_OK) rc = one(j, s);
		kf_shard_close(s);
		if (rc != KF_ENOTFOUND) return rc;
	}
	return kf_fail(j->err, KF_ENOTFOUND, "%s has no document %ld", j->o->dir, j->o->doc);
}

/* ---- checking ---- */

static kf_status verify_shard(struct job *j, int i)
{
	kf_shard *s;
	kf_status rc = kf_shard_open(j->set, i, &s, j->err);

	if (rc != KF_OK) return rc;
	if ((rc = kf_shard_verify(j->set, i, s, j->err)) == KF_OK) rc = all_of(j, s, NULL);
	kf_shard_close(s);
	return rc;
}

static kf_status take_away(struct job *j, const bool *bad, int n, kf_status why)
{
	kf_status rc;

	if (!j->o->repair) return why;
	if ((rc = kf_set_drop(j->o->dir, bad, n, j->err)) == KF_OK)
		fprintf(j->out, "%s: what was damaged is taken away; run the command that makes the set\n", j->o->dir);
	return rc;
}

/* Every shard is looked at, whatever was found before; a shortage of memory or the like is no damage. */
static kf_status verify(struct job *j)
{
	int n = kf_set_shards(j->set), found = 0;
	bool *bad = kf_zalloc((size_t)n, sizeof *bad);
	kf_status rc = bad ? KF_OK : kf_fail(j->err, KF_ENOMEM, "no memory for %d shards", n);
	char first[512] = "";

	if (!json_object_get(kf_set_manifest(j->set), "seal")) {
		snprintf(first, sizeof first, "%.400s/manifest.json: its seal is not there", j->o->dir);
		fprintf(j->out, "damaged: %s\n", first);
		found++;
	}
	for (int i = 0; i < n && rc == KF_OK; i++) {
		rc = verify_shard(j, i);
		if (rc != KF_EDATA && rc != KF_ENOTFOUND && rc != KF_EUNSUPPORTED) continue;
		fprintf(j->out, "damaged: %s\n", j->err->text);
		if (!found++) snprintf(first, sizeof first, "%.511s", j->err->text);
		bad[i] = true;
		rc = KF_OK;
	}
	if (rc == KF_OK && found) {
		char *advice = strstr(first, REPAIR);      /* once is enough */

		if (advice) *advice = 0;
		rc = take_away(j, bad, n, kf_fail(j->err, KF_EDATA, "%s%s. kf-inspect --repair %s takes away what is damaged, and the command "
			"that makes the set makes it again", first, found > 1 ? ", and others" : "", j->o->dir));
	}
	else if (rc == KF_OK)
		fprintf(j->out, "%s: %d shards, %llu documents: good\n", j->o->dir, n, (unsigned long long)kf_set_docs(j->set));
	kf_free(bad);
	return rc;
}

/* A set that cannot be opened: its manifest or tokenizer is damaged. Of shards without a manifest the stage looks at every
 * block before it keeps them. */
static kf_status cannot_open(struct job *j, kf_status rc)
{
	json_t *options = NULL, *info = NULL;
	kf_err begun;

	/* of one that is not whole only what it is to become can be damaged so that the stage does not go on */
	if (rc == KF_ENOTFOUND && (j->o->verify || j->o->repair)) {
		if (kf_set_recorded(j->o->dir, &options, &info, &begun) == KF_EDATA) {
			*j->err = begun;
			rc = KF_EDATA;
		}
		json_decref(options);
		json_decref(info);
	}
	if (!j->o->repair || rc != KF_EDATA) return rc;
	fprintf(j->out, "damaged: %s\n", j->err->text);
	return take_away(j, NULL, 0, rc);
}

kf_status kf_inspect(const kf_inspect_opts *o, FILE *out, kf_err *err)
{
	struct job j = { .o = o, .out = out, .err = err };
	kf_part_lock lock = KF_PART_LOCK_NONE;
	const void *data;
	size_t n;
	kf_status rc;

	if (kf_exists(o->dir) && !kf_is_dir(o->dir)) {
		if ((rc = kf_inspect_map(o, out, err)) != KF_OK) return rc;
		return kf_flush_piped(out, "the output", err);
	}
	/* What is found damaged must be so still when it is taken away. (A folder that takes no lock loses nothing either.) */
	if (o->repair && kf_part_lock_take(&lock, o->dir, 0, 1, err) == KF_EBUSY) return KF_EBUSY;
	kf_arena_init(&j.arena);
	if ((rc = kf_set_open(o->dir, KF_SET_KINDS, &j.set, err)) != KF_OK) {
		rc = cannot_open(&j, rc);
		goto out;
	}
	j.kind = kf_set_get_kind(j.set);
	if (o->doc >= 0 && !o->json && kf_set_tokenizer(j.set, &data, &n, NULL) == KF_OK &&
	    (rc = kf_tokenizer_load(data, n, &j.tokenizer, err)) != KF_OK) {
		kf_context(err, rc, "%s: its tokenizer", o->dir);
		goto out;
	}
	if (o->verify || o->repair) rc = verify(&j);
	else if (o->sizes) rc = sizes(&j);
	else if (o->doc >= 0) rc = find_doc(&j);
	else if (o->json) rc = each_shard(&j, all_of, NULL);
	else rc = summary(&j);
	if (rc == KF_OK) rc = kf_flush_piped(out, "the output", err);
out:
	kf_tokenizer_free(j.tokenizer);
	kf_arena_release(&j.arena);
	kf_set_close(j.set);
	kf_part_lock_drop(&lock);
	return rc;
}
