/* The manifest: what a set is made from and what its shards hold, as JSON. */
#ifndef KF_STORE_MANIFEST_H
#define KF_STORE_MANIFEST_H

#include "common/store/store.h"

/* A new manifest of a set without its shards: what manifest.part.json holds. NULL on no memory. */
json_t *kf_manifest_new(const kf_set_spec *spec, kf_fp tokenizer);
kf_fp kf_manifest_identity(const kf_set_spec *spec, kf_fp tokenizer);
/* In what two manifests are of different sets: "option --top-k: 4 there, 5 here; ...", "" when they are of one. */
#define KF_MANIFEST_DIFF 640
void kf_manifest_diff(const json_t *there, const json_t *here, char out[KF_MANIFEST_DIFF]);
/* Whether both are of one program and one kind of set. */
bool kf_manifest_same_maker(const json_t *there, const json_t *here);
/* KF_OK when the manifest there was made from the same as here; else KF_EMISMATCH with what differs. */
kf_status kf_manifest_same(const json_t *there, const json_t *here, const char *dir, kf_err *err) KF_MUST_CHECK;
/* Read one and check its form: format, kind, precision, shards, inputs. */
kf_status kf_manifest_load(const char *path, json_t **out, kf_err *err) KF_MUST_CHECK;
kf_status kf_manifest_write(const char *path, json_t *manifest, kf_err *err) KF_MUST_CHECK; /* and seals it */
kf_status kf_manifest_facts(const json_t *manifest, int shard, kf_shard_facts *f, kf_err *err) KF_MUST_CHECK;
kf_status kf_manifest_add_facts(json_t *manifest, const kf_shard_facts *facts, int n, kf_err *err) KF_MUST_CHECK;
/* The serialised tokenizer beside a manifest, of which tokenizer is the object of that name: added to out, which is empty, with a 0
 * behind it; *disk: bytes of the file. KF_EDATA where it is not what the manifest says. */
kf_status kf_manifest_tokenizer(const json_t *tokenizer, const char *dir, kf_buf *out, uint64_t *disk, kf_err *err) KF_MUST_CHECK;
/* Whether all its files are there, as large as it says. */
bool kf_manifest_files(const json_t *manifest, const char *dir);
int kf_manifest_shards(const json_t *manifest);
kf_set_kind kf_manifest_kind(const json_t *manifest); /* KF_SET_KINDS when unknown */

#endif
