# What has to be installed: Debian packages, found by header. `make deps` runs by itself
# when something is missing.

DEPS_HEADERS := lmdb.h:liblmdb-dev zstd.h:libzstd-dev sentencepiece_processor.h:libsentencepiece-dev \
  dnnl.h:libdnnl-dev pcre2.h:libpcre2-dev utf8proc.h:libutf8proc-dev jansson.h:libjansson-dev \
  xxhash.h:libxxhash-dev cmocka.h:libcmocka-dev
