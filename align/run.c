/* kf-align over shard sets. */
#include <unistd.h>

#include "align/counted.h"
#include "align/maps.h"
#include "common/base/lock.h"
#include "common/base/opt.h"
#include "common/store/pass.h"

enum { MAX_FOLDS = 32 };

typedef struct {
	kf_aligner *aligner;
	int folds;
	kf_set *const *source;     /* (folds) */
} job;

static kf_status one_document(void *arg, kf_shard *const *in, kf_shard_writer *out, kf_tally *stats, kf_arena *arena,
	uint64_t *tokens, kf_err *err)
{
	const job *j = arg;
	kf_logits_rec t, s;
	kf_dist_rec aligned;
	kf_status rc;

	if ((rc = kf_shard_next_tokens(in[0], arena, &t, err)) != KF_OK) return rc;
	const int fold = kf_fold_of(&t.head, j->folds);
	for (int f = 0; f < j->folds; f++) {
		kf_logits_rec other = { .n = 0 };

		rc = f == fold ? kf_shard_next_logits(in[1 + f], arena, &s, err) : kf_shard_next_tokens(in[1 + f], arena, &other, err);
		if (rc == KF_OK && other.n)
			rc = kf_fail(err, KF_EDATA, "%s has tokens of document %llu (\"%.200s\"), which is in fold %d/%d: its folds were dealt in another way; "
				"make it anew with kf-extract --fold", kf_set_dir(j->source[f]), (unsigned long long)t.head.doc, t.head.id, fold, j->folds);
		if (rc != KF_OK) return rc;
	}
	rc = kf_align_doc(j->aligner, &s, &t, arena, &aligned, stats, err);
	if (rc != KF_OK) return kf_context(err, rc, "%s", kf_set_dir(j->source[fold]));
	*tokens = t.n;
	return out ? kf_shard_put_dist(out, &aligned, err) : KF_OK;
}

/* ---- what the two sets must have in common ---- */

static kf_status load_tokenizer(const kf_set *set, kf_tokenizer **out, kf_err *err)
{
	const void *data;
	size_t n;
	kf_status rc;

	if ((rc = kf_set_tokenizer(set, &data, &n, err)) != KF_OK) return rc;
	return kf_context(err, kf_tokenizer_load(data, n, out, err), "%s: its tokenizer", kf_set_dir(set));
}

/* The set of the source, or of every fold of it in order: set (folds), of the target's corpus and one tokenizer. */
static kf_status open_sources(const kf_align_opts *o, const kf_set *target, kf_set **set, kf_err *err)
{
	kf_fp first = { 0, 0 }, tokenizer;

	if (o->folds > MAX_FOLDS) return kf_fail(err, KF_EUSAGE, "--source is given %d times; there may be %d folds", o->folds, MAX_FOLDS);
	for (int i = 0; i < o->folds; i++) {
		const char *text;
		kf_set *s;
		int fold, folds;
		kf_status rc;

		if ((rc = kf_set_open(o->source[i], KF_SET_LOGITS, &s, err)) != KF_OK) return rc;
		text = json_string_value(json_object_get(kf_set_info(s), "fold"));
		rc = kf_parse_part("fold", text, &fold, &folds, err);
		if (rc == KF_OK && !text && o->folds > 1)
			rc = kf_fail(err, KF_EUSAGE, "--source %s is of the whole text; several are for its folds (kf-extract --fold)", o->source[i]);
		if (rc == KF_OK && folds != o->folds)
			rc = kf_fail(err, KF_EUSAGE, "--source %s is fold %s of the text: give the sets of all %d folds", o->source[i], text, folds);
		if (rc == KF_OK && set[fold])
			rc = kf_fail(err, KF_EUSAGE, "--source %s and %s are both fold %s of the text", kf_set_dir(set[fold]), o->source[i], text);
		if (rc != KF_OK) {
			kf_set_close(s);
			return rc;
		}
		set[fold] = s;
		if ((rc = kf_set_same_corpus(s, target, err)) != KF_OK) return rc;
		if (!text) return KF_OK;
		if ((rc = kf_set_input_fp(s, "tokenizer", &tokenizer, err)) != KF_OK) return rc;
		if (i == 0) first = tokenizer;
		if (!kf_fp_equal(first, tokenizer))
			return kf_fail(err, KF_EMISMATCH, "%s and %s have different tokenizers: folds are of one model", o->source[0], o->source[i]);
	}
	return KF_OK;
}

/* The map of o->map_file; one of something else is as none where it is to be replaced. */
static kf_status map_there(const kf_align_opts *o, const kf_vocabmap_key *key, kf_vocabmap **map, kf_err *err)
{
	kf_status rc = align_map_find(o->map_file, key, o->any_corpus, map, err);

	return rc == KF_EMISMATCH && o->replace ? KF_OK : rc;
}

/* The map's part of the inputs, and the map itself where it is in a file: what made it is known before it is made. */
static kf_status find_map(const kf_align_opts *o, const align_map_from *from, kf_vocabmap **map, kf_set_input *in, int *n_in,
	kf_err *err)
{
	kf_vocabmap_key key;
	kf_status rc;

	if (o->map == KF_ALIGN_PREFIX || o->map == KF_ALIGN_EXACT) {
		if (o->map_file)
			return kf_fail(err, KF_EUSAGE, "--map is for --vocab-map mined and stats: prefix and exact are made in a moment");
		if (o->cooccurrence)
			return kf_fail(err, KF_EUSAGE, "--map-ties is for --vocab-map mined: no other map has ties to break");
		return KF_OK;
	}
	if (o->cooccurrence && o->map != KF_ALIGN_MINED)
		return kf_fail(err, KF_EUSAGE, "--map-ties is for --vocab-map mined: stats counts by itself");
	if ((rc = align_map_key(from, &key, err)) != KF_OK) return rc;
	if ((rc = map_there(o, &key, map, err)) != KF_OK) return rc;
	in[(*n_in)++] = (kf_set_input){ .role = "map", .name = o->map_file ? o->map_file : align_map_method(from),
		.fp = kf_vocabmap_fp(*map ? &(*map)->key : &key) };
	return KF_OK;
}

/* Another process may be making the very map: it is waited for, and its file is read. */
static kf_status map_in_file(const kf_align_opts *o, const align_map_from *from, kf_pool *pool, kf_vocabmap **map, kf_err *err)
{
	char path[KF_PATH_MAX];
	kf_lock lock = KF_LOCK_NONE;
	kf_vocabmap_key key;
	kf_status rc;

	if (snprintf(path, sizeof path, "%s." KF_LOCK_FILE, o->map_file) >= (int)sizeof path)
		return kf_fail(err, KF_EINVAL, "path too long: %s", o->map_file);
	if (*map) {
		/* once the map is there the lock guards nothing: of a run that was killed before it could remove it */
		unlink(path);
		return KF_OK;
	}
	if ((rc = align_map_key(from, &key, err)) != KF_OK || (rc = kf_lock_take(&lock, path, false, true, o->map_file, err)) != KF_OK)
		return rc;
	if ((rc = map_there(o, &key, map, err)) == KF_OK && !*map &&
	    (rc = align_map_make(from, pool, map, err)) == KF_OK)
		rc = kf_vocabmap_write(*map, o->map_file, o->program, err);
	kf_lock_drop(&lock);
	return rc;
}

static kf_status use_map(const kf_align_opts *o, const align_map_from *from, kf_pool *pool, kf_aligner *a, kf_vocabmap **map,
	kf_err *err)
{
	kf_status rc;

	if (o->map == KF_ALIGN_PREFIX || o->map == KF_ALIGN_EXACT) return KF_OK;
	if (o->map_file) rc = map_in_file(o, from, pool, map, err);
	else rc = *map ? KF_OK : align_map_make(from, pool, map, err);
	if (rc != KF_OK) return rc;
	return kf_aligner_use_map(a, *map, err);
}

/* Where the source's masses inside its tokens come from (align.h). */
static const char *path_kind(const kf_set *source, kf_align_method method)
{
	const json_t *info = kf_set_info(source);

	if (!json_is_false(json_object_get(info, "byte_path"))) return "stored";
	return method == KF_ALIGN_BYTE ? "bound" : "spread";
}

kf_status kf_align_run(const kf_align_opts *o, kf_pool *pool, kf_set_state *state, json_t **stats, kf_err *err)
{
	kf_set *set[1 + MAX_FOLDS] = { NULL };  /* target, folds of the source */
	job j = { .source = set + 1, .folds = o->folds };
	kf_set_writer *w = NULL;
	kf_tokenizer *st = NULL, *tt = NULL;
	kf_set_input in[3 + MAX_FOLDS];
	kf_set_spec spec = { .dir = o->out, .kind = KF_SET_ALIGNED, .program = o->program, .options = o->record, .replace = o->replace, .inputs = in,
		.n_inputs = 2 + o->folds };
	kf_pass pass = { .in = set, .n_in = 1 + o->folds, .label = "align", .progress = o->progress, .doc = one_document };
	kf_tally tally = KF_TALLY(kf_align_stat);
	align_map_from from = { .map = o->map, .cooccurrence = o->cooccurrence, .progress = o->progress };
	align_pairs counts = { 0 };
	kf_vocabmap *map = NULL;
	json_t *info = NULL, *template;
	bool whole, complete;
	kf_status rc;

	*stats = NULL;
	*state = KF_SET_NEW;
	if ((rc = kf_parse_part("shard", o->shard, &pass.part, &pass.parts, err)) != KF_OK) goto out;
	if ((rc = kf_set_open(o->target, KF_SET_LOGITS, &set[0], err)) != KF_OK || (rc = kf_set_whole(set[0], err)) != KF_OK) goto out;
	if ((rc = open_sources(o, set[0], set + 1, err)) != KF_OK) goto out;
	if (o->folds > 1 && (o->weighted || o->map == KF_ALIGN_STATS || o->cooccurrence)) {
		rc = kf_fail(err, KF_EUSAGE, "--source of several folds has nothing to count in: --vocab-map stats, --map-ties co-occurrence and "
			"--one-to-many weighted want a source's whole text");
		goto out;
	}
	in[0] = (kf_set_input){ .role = "corpus", .name = "corpus" };
	if ((rc = kf_set_input_fp(set[0], "corpus", &in[0].fp, err)) != KF_OK) goto out;
	for (int f = 1; f <= o->folds; f++) in[f] = (kf_set_input){ .role = "source", .name = kf_set_dir(set[f]), .fp = kf_set_fp(set[f]) };
	in[1 + o->folds] = (kf_set_input){ .role = "target", .name = o->target, .fp = kf_set_fp(set[0]) };
	if ((rc = load_tokenizer(set[1], &st, err)) != KF_OK || (rc = load_tokenizer(set[0], &tt, err)) != KF_OK) goto out;
	from.source = set[1];
	from.target = set[0];
	from.st = st;
	from.tt = tt;
	from.source_name = kf_set_info_name(set[1], "model");
	from.target_name = kf_set_info_name(set[0], "model");
	if ((rc = find_map(o, &from, &map, in, &spec.n_inputs, err)) != KF_OK) goto out;
	if ((rc = kf_aligner_new(st, tt, o->method, o->map, &j.aligner, err)) != KF_OK) goto out;
	if (o->quirks && (rc = kf_aligner_quirks(j.aligner, err)) != KF_OK) goto out;
	if (o->weighted && (rc = kf_aligner_weigh(j.aligner, &counts, err)) != KF_OK) goto out;

	const char *path = path_kind(set[1], o->method);
	if (!(info = json_pack("{s:s,s:s,s:s}", "source", from.source_name, "target", from.target_name, "path", path))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s (or its name is no UTF-8)", o->out);
		goto out;
	}
	if ((template = json_object_get(kf_set_info(set[0]), "chat_template")) &&
	    json_object_set(info, "chat_template", template) != 0) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for the facts about %s", o->out);
		goto out;
	}
	spec.info = info;
	spec.n_shards = kf_set_shards(set[0]);
	spec.part = pass.part;
	spec.parts = pass.parts;
	spec.chat = kf_set_chat(set[0]);
	spec.f32 = o->precision ? o->precision == 2 : kf_set_f32(set[1]);
	if ((rc = kf_set_tokenizer(set[0], &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) goto out;
	if ((rc = kf_set_begin(&spec, &w, state, err)) != KF_OK) goto out;
	if (*state == KF_SET_CURRENT) goto out;

	if (o->weighted) {
		if ((rc = align_count(set[1], set[0], st, tt, pool, o->progress, &counts, err)) != KF_OK) goto out;
		from.counted = &counts;
	}
	if ((rc = use_map(o, &from, pool, j.aligner, &map, err)) != KF_OK) goto out;
	pass.out = w;
	pass.arg = &j;
	if ((rc = kf_pass_run(&pass, pool, &tally, &whole, err)) != KF_OK) goto out;
	if (whole && (!(*stats = kf_align_stats_json(&tally)) || json_object_set_new(*stats, "path", json_string(path)) < 0)) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for statistics");
		goto out;
	}
	if (whole) rc = kf_set_commit(w, *stats, &complete, err);
	else kf_set_leave(w);
	w = NULL;
out:
	kf_set_abandon(w);
	kf_tally_release(&tally);
	kf_aligner_free(j.aligner);
	align_pairs_release(&counts);
	kf_vocabmap_free(map);
	kf_tokenizer_free(tt);
	kf_tokenizer_free(st);
	for (int i = 0; i <= MAX_FOLDS; i++) kf_set_close(set[i]);
	json_decref(info);
	return rc;
}
