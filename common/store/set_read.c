/* Reading sets: the manifest, attachments, and shards checked against it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/store/manifest.h"

struct kf_set {
	char dir[KF_PATH_MAX];
	json_t *manifest;
	kf_set_kind kind;
	bool f32, chat;
	int n_shards;
	kf_shard_facts all, *shards; /* (n_shards); all.disk counts every file */
	kf_buf tokenizer;
	bool has_tokenizer;
};

static kf_status no_manifest(const char *dir, kf_err *err)
{
	char part[KF_PATH_MAX];

	if (!kf_is_dir(dir)) return kf_fail(err, KF_ENOTFOUND, "%s: no such folder", dir);
	if (kf_path_join(part, dir, MANIFEST_PART, NULL) == KF_OK && kf_exists(part))
		return kf_fail(err, KF_ENOTFOUND, "%s is not complete; run the command that makes it again, or the other parts of --shard (kf-join puts them "
			"together)", dir);
	return kf_fail(err, KF_ENOTFOUND, "%s is not a shard set: it has no %s", dir, MANIFEST);
}

kf_status kf_set_open(const char *dir, kf_set_kind kind, kf_set **out, kf_err *err)
{
	char path[KF_PATH_MAX];
	struct stat st;
	json_t *tokenizer;
	kf_set *s;
	kf_status rc;

	*out = NULL;
	if ((rc = kf_path_join(path, dir, MANIFEST, err)) != KF_OK) return rc;
	if (stat(path, &st) < 0) return no_manifest(dir, err);
	if (!(s = kf_zalloc(1, sizeof *s))) return kf_fail(err, KF_ENOMEM, "no memory to open %s", dir);
	snprintf(s->dir, sizeof s->dir, "%s", dir);
	if ((rc = kf_manifest_load(path, &s->manifest, err)) != KF_OK) goto fail;
	s->kind = kf_manifest_kind(s->manifest);
	s->n_shards = kf_manifest_shards(s->manifest);
	s->f32 = strcmp(json_string_value(json_object_get(s->manifest, "precision")), "f32") == 0;
	s->chat = json_integer_value(json_object_get(s->manifest, "format")) > 1;
	if (kind != KF_SET_KINDS && kind != s->kind) {
		rc = kf_fail(err, KF_EMISMATCH, "%s is a set of kind %s; one of kind %s is needed here", dir,
			kf_set_kind_name(s->kind), kf_set_kind_name(kind));
		goto fail;
	}
	if (!(s->shards = kf_zalloc((size_t)s->n_shards, sizeof *s->shards))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for %d shards", s->n_shards);
		goto fail;
	}
	if ((int)json_array_size(json_object_get(s->manifest, "shards")) != s->n_shards) {
		rc = kf_fail(err, KF_EDATA, "%s: damaged: it does not tell the facts of %d shards", path, s->n_shards);
		goto fail;
	}
	s->all.disk = (uint64_t)st.st_size;
	for (int i = 0; i < s->n_shards; i++) {
		kf_shard_facts *f = &s->shards[i];

		if ((rc = kf_context(err, kf_manifest_facts(s->manifest, i, f, err), "%s", path)) != KF_OK) goto fail;
		s->all.identity = f->identity;
		s->all.docs += f->docs;
		s->all.tokens += f->tokens;
		s->all.bytes += f->bytes;
		s->all.content += f->content;
		s->all.disk += f->disk;
	}
	tokenizer = json_object_get(s->manifest, "tokenizer");
	if (tokenizer) {
		uint64_t disk;

		if ((rc = kf_manifest_tokenizer(tokenizer, dir, &s->tokenizer, &disk, err)) != KF_OK) goto fail;
		s->has_tokenizer = true;
		s->all.disk += disk;
	}
	*out = s;
	return KF_OK;
fail:
	kf_set_close(s);
	return rc;
}

void kf_set_close(kf_set *s)
{
	if (!s) return;
	json_decref(s->manifest);
	kf_free(s->shards);
	kf_buf_release(&s->tokenizer);
	kf_free(s);
}

const char *kf_set_dir(const kf_set *s) { return s->dir; }
kf_set_kind kf_set_get_kind(const kf_set *s) { return s->kind; }
kf_fp kf_set_fp(const kf_set *s) { return s->all.identity; }
int kf_set_shards(const kf_set *s) { return s->n_shards; }
uint64_t kf_set_docs(const kf_set *s) { return s->all.docs; }
uint64_t kf_set_tokens(const kf_set *s) { return s->all.tokens; }
uint64_t kf_set_bytes(const kf_set *s) { return s->all.bytes; }
uint64_t kf_set_disk(const kf_set *s) { return s->all.disk; }
bool kf_set_f32(const kf_set *s) { return s->f32; }
bool kf_set_chat(const kf_set *s) { return s->chat; }
bool kf_set_files(const kf_set *set) { return kf_manifest_files(set->manifest, set->dir); }
const json_t *kf_set_manifest(const kf_set *s) { return s->manifest; }
json_t *kf_set_info(const kf_set *s) { return json_object_get(s->manifest, "info"); }

const char *kf_set_info_name(const kf_set *s, const char *key)
{
	const char *name = json_string_value(json_object_get(kf_set_info(s), key));

	return name ? name : kf_set_dir(s);
}

kf_status kf_set_whole(const kf_set *s, kf_err *err)
{
	const char *fold = json_string_value(json_object_get(kf_set_info(s), "fold"));

	return fold ? kf_fail(err, KF_EUSAGE, "%s is fold %s of its text only: give the sets of all folds to kf-align --source", kf_set_dir(s), fold) : KF_OK;
}

uint64_t kf_set_shard_docs(const kf_set *s, int shard)
{
	return shard >= 0 && shard < s->n_shards ? s->shards[shard].docs : 0;
}

uint64_t kf_set_shard_disk(const kf_set *s, int shard)
{
	return shard >= 0 && shard < s->n_shards ? s->shards[shard].disk : 0;
}

kf_status kf_shard_verify(const kf_set *set, int shard, const kf_shard *s, kf_err *err)
{
	if (kf_fp_equal(kf_fp_of(s->map.data, s->map.size), set->shards[shard].checksum)) return KF_OK;
	return kf_fail(err, KF_EDATA, "%s: its checksum is not the manifest's" REPAIR, s->path);
}

kf_status kf_set_input_fp(const kf_set *s, const char *role, kf_fp *out, kf_err *err)
{
	json_t *in;
	size_t i;

	json_array_foreach(json_object_get(s->manifest, "inputs"), i, in) {
		if (strcmp(json_string_value(json_object_get(in, "role")), role)) continue;
		return kf_fp_parse(json_string_value(json_object_get(in, "fingerprint")), out) ? KF_OK :
			kf_fail(err, KF_EDATA, "%s: the fingerprint of its %s is damaged", s->dir, role);
	}
	return kf_fail(err, KF_ENOTFOUND, "%s: no input \"%s\" is recorded", s->dir, role);
}

kf_status kf_set_tokenizer(const kf_set *s, const void **data, size_t *n, kf_err *err)
{
	*data = NULL;
	*n = 0;
	if (!s->has_tokenizer) return kf_fail(err, KF_ENOTFOUND, "%s carries no tokenizer", s->dir);
	*data = s->tokenizer.data;
	*n = s->tokenizer.len;
	return KF_OK;
}

kf_status kf_shard_open(const kf_set *set, int shard, kf_shard **out, kf_err *err)
{
	char path[KF_PATH_MAX];
	const kf_shard_facts *f;
	kf_shard *s;
	struct stat st;
	kf_status rc;

	*out = NULL;
	if (shard < 0 || shard >= set->n_shards)
		return kf_fail(err, KF_EINVAL, "%s has %d shards; there is no shard %d", set->dir, set->n_shards, shard);
	if ((rc = kf_shard_path(path, set->dir, shard, err)) != KF_OK) return rc;
	f = &set->shards[shard];
	if (stat(path, &st) < 0 && errno == ENOENT) return kf_fail(err, KF_ENOTFOUND, "%s is missing" REPAIR, path);
	if (stat(path, &st) < 0) return kf_fail_errno(err, "cannot open %s", path);
	if ((uint64_t)st.st_size != f->disk)
		return kf_fail(err, KF_EDATA, "%s: has %llu bytes where the manifest says %llu" REPAIR, path, (unsigned long long)st.st_size, (unsigned long long)f->disk);
	if ((rc = kf_shard_open_file(path, &s, err)) != KF_OK) return rc;
	if (!kf_fp_equal(s->facts.identity, f->identity) || s->facts.docs != f->docs || s->facts.content != f->content) {
		rc = kf_fail(err, KF_EDATA, "%s: is not the shard that the manifest describes" REPAIR, path);
		kf_shard_close(s);
		return rc;
	}
	s->kind = set->kind;
	s->f32 = set->f32;
	s->codec = kf_codec_of(set->kind, set->f32);
	*out = s;
	return KF_OK;
}
