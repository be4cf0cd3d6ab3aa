/* How kf-extract computes, where it is left to choose. */
#ifndef KF_EXTRACT_WAY_H
#define KF_EXTRACT_WAY_H

#include "common/model/way.h"
#include "common/text/chat.h"
#include "extract/extract.h"

/* Corpora of less text than this are run in float32: to measure would cost more than it saves. */
#define KF_WAY_BYTES (96 * 1024)

/* The way that --compute and --int8 name; with auto, as_there, the one that a set that o->out holds, or half holds, was made in; for
 * a new set on the CPU, the one that kf_way_choose finds on passages of the corpus's first shard, so that it depends on model
 * and corpus, and not on the part of an array job. It is put into the record of options as what it is ("compute", "int8"), and what was
 * measured into info ("kl"); a set that says "auto", of versions before this one, was made in float32 and stays so named. */
kf_status kf_extract_way(const kf_extract_opts *o, bool as_there, kf_set *corpus, const kf_weights *weights, const kf_tokenizer *tokenizer,
	const kf_chat *chat, json_t *record, json_t *info, kf_way *out, kf_err *err) KF_MUST_CHECK;

#endif
