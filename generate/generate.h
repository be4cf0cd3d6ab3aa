/* kf-generate: more text to learn from, by a model that goes on with passages of a corpus.
 *
 * Shard i of the corpus becomes shard i of the output, which is a corpus itself: each document as it is, then its generated ones. One
 * begins with some words of the document, from a place chosen at random, and the model goes on from there, having seen nothing before; of a
 * conversation, one of the assistant's replies, chosen at random, is another, and what follows it is left out.
 *
 * After Kim and Rush, Sequence-Level Knowledge Distillation (EMNLP 2016), where a student learns from a teacher's translations; here the text is only
 * where distributions are asked for: extraction runs every model over it as over any other, and what is fused is what they all say.
 */
#ifndef KF_GENERATE_GENERATE_H
#define KF_GENERATE_GENERATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/ops/ops.h"
#include "common/store/set.h"

/* What the domain of a generated document ends with. Documents of such domains are passed on, and not gone on with. */
#define KF_GENERATED " (generated)"

typedef struct {
	const char *model, *corpus, *out;
	const char *chat_template; /* by name; NULL: the model's own. Of conversations */
	long texts;                /* for each document */
	long tokens;               /* of each, at most, without what it begins with */
	long prompt_bytes;         /* that it begins with, at least, and then to the end of the word */
	bool keep;                 /* documents themselves, too */
	double temperature, top_p; /* decode.h */
	uint64_t seed;
	size_t cache_bytes;        /* for keys and values, about */
	const kf_ops *ops;         /* the backend; NULL: the CPU's */
	kf_compute compute;        /* AUTO: bf16 where the CPU has it, which a sampled text does not mind */
	int threads, progress;     /* progress: KF_PROGRESS_* */
	int part, parts;           /* shards s with s % parts == part */
	bool replace;              /* a set in out that was made of something else is replaced */
	json_t *record;            /* the options that shape the content (kf_opt_record); borrowed */
} kf_generate_opts;

typedef struct {
	kf_set_state state;
	bool no_conversations;     /* in the corpus: a chat template is for nothing */
	bool complete;             /* false after one part of an array job */
	uint64_t documents, texts, tokens, bytes; /* of this run: gone on with; generated, and their tokens and bytes */
	uint64_t no_room;          /* texts whose beginning leaves no room in the model's context: not made */
	uint64_t empty;            /* texts that ended before they began, or were no text: left out */
	double seconds;
} kf_generate_stats;

kf_status kf_generate(const kf_generate_opts *o, kf_generate_stats *stats, kf_err *err) KF_MUST_CHECK;

/* Where a text that goes on from a document (n bytes) begins: *from is the begin of a word in its first four fifths, chosen by u in [0, 1), and *to the end
 * of the word `most` bytes later. Where there are no words, or none within 64 bytes, it is between two characters. n > 0; from < to <= n. */
void kf_generate_place(const uint8_t *text, size_t n, size_t most, double u, size_t *from, size_t *to);

#endif
