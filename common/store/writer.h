/* What shard_write.c asks of the set being written (set_write.c). */
#ifndef KF_STORE_WRITER_H
#define KF_STORE_WRITER_H

#include "common/store/set.h"

const char *kf_writer_dir(const kf_set_writer *w);
int kf_writer_shards(const kf_set_writer *w);
kf_set_kind kf_writer_kind(const kf_set_writer *w);
bool kf_writer_f32(const kf_set_writer *w);
bool kf_writer_chat(const kf_set_writer *w);
kf_fp kf_writer_identity(const kf_set_writer *w);
/* Is shard i there, whole, and of this set? Then its facts. sound: read all of it, too, for a shard whose checksum no manifest keeps. */
kf_status kf_writer_shard_there(const kf_set_writer *w, int i, bool sound, bool *there, kf_shard_facts *f, kf_err *err) KF_MUST_CHECK;
void kf_writer_shard_done(kf_set_writer *w, int shard, const kf_shard_facts *facts); /* from any thread */

#endif
