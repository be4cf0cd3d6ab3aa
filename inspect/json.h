/* Records as JSON Lines. */
#ifndef KF_INSPECT_JSON_H
#define KF_INSPECT_JSON_H

#include <stdio.h>

#include "common/store/record.h"

void kf_json_corpus(FILE *out, const kf_corpus_rec *r);
void kf_json_logits(FILE *out, const kf_logits_rec *r, bool path);
void kf_json_dist(FILE *out, const kf_dist_rec *r);
/* A string with quotes; bytes that are not UTF-8 become U+FFFD, one for every byte. */
void kf_json_string(FILE *out, const uint8_t *s, size_t n);

#endif
