# Vocabulary maps: what the published code gives, and maps as files.
. tests/lib.sh

fixtures=tests/parity/maps
models="llama-tiny qwen2-tiny gemma3-tiny"
check "a corpus" "$BIN/kf-prepare" --quiet --out "$TMP/corpus" --shards 2 "$fixtures/text.jsonl"
for m in $models; do
	check "logits of $m" "$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus" --out "$TMP/$m"
done

align() { # SOURCE TARGET OUT OPTION...
	local s=$1 t=$2 o=$3; shift 3
	"$BIN/kf-align" --quiet --source "$TMP/$s" --target "$TMP/$t" --out "$TMP/$o" "$@"
}
pairs() { # MAP: a line a source token, its id and the target's
	"$BIN/kf-inspect" --json "$1" | sed -E 's/^.*"id":([0-9]+),.*"to":(null|[0-9]+),"target".*$/\1 \2/; s/null/-/'
}
for s in $models; do
	for t in $models; do
		[ "$s" = "$t" ] && continue
		align "$s" "$t" "first-$s-$t" --vocab-map mined --map "$TMP/first.$s-$t"
		align "$s" "$t" "ties-$s-$t" --vocab-map mined --map-ties co-occurrence --map "$TMP/ties.$s-$t"
		align "$s" "$t" "stats-$s-$t" --vocab-map stats --map "$TMP/stats.$s-$t"
		column=2
		for map in first ties stats; do
			pairs "$TMP/$map.$s-$t" >"$TMP/pairs"
			cut -d ' ' -f "1,$column" "$fixtures/$s-$t.txt" >"$TMP/published"
			check_same "$s to $t, $map: as the published code" "$TMP/published" "$TMP/pairs"
			column=$((column + 1))
		done
	done
done

differ() { ! cmp -s "$1" "$2"; }
# every map with every method; a map changes what comes out
for method in byte dtw dtw-chat; do
	for map in prefix exact mined stats; do
		check "$method with $map" align llama-tiny gemma3-tiny "$method-$map" --method $method --vocab-map $map
		"$BIN/kf-inspect" --json "$TMP/$method-$map" >"$TMP/$method-$map.json"
	done
	for map in exact mined stats; do
		check "$method: $map is not prefix" differ "$TMP/$method-prefix.json" "$TMP/$method-$map.json"
	done
done

# a file
f=$TMP/first.llama-tiny-gemma3-tiny
align llama-tiny gemma3-tiny again --vocab-map mined --map "$TMP/again.map" --threads 1
check_same "the same bytes whatever the threads" "$f" "$TMP/again.map"
chmod 444 "$f"
stamp=$(stat -c %y "$f")
check "a map that is there is used" align llama-tiny gemma3-tiny used --vocab-map mined --map "$f"
check "and left as it is" test "$stamp" = "$(stat -c %y "$f")"
check "with the map or without: the same set" align llama-tiny gemma3-tiny used --vocab-map mined
check_fails 1 "made for another source's tokenizer" "another source" align qwen2-tiny gemma3-tiny x --vocab-map mined --map "$f"
check_fails 1 "made for another target's tokenizer" "another target" align llama-tiny qwen2-tiny x --vocab-map mined --map "$f"
check_fails 1 "of method mined, not stats" "another method" align llama-tiny gemma3-tiny x --vocab-map stats --map "$f"
check_fails 1 "mined, not mined co-occurrence" "other ties" align llama-tiny gemma3-tiny x --vocab-map mined --map-ties co-occurrence --map "$f"
check_fails 1 "map" "a set made through another map is kept" align llama-tiny gemma3-tiny used --vocab-map mined --map-ties co-occurrence
check_fails 2 "mined and stats" "exact needs no file" align llama-tiny gemma3-tiny x --vocab-map exact --map "$TMP/none"
check_fails 2 "map-ties" "ties of another map" align llama-tiny gemma3-tiny x --vocab-map stats --map-ties co-occurrence
check_fails 2 "map-ties" "ties without a map" align llama-tiny gemma3-tiny x --map-ties co-occurrence
check_fails 1 "$TMP/nowhere/map" "no place for the file" align llama-tiny gemma3-tiny x2 --vocab-map mined --map "$TMP/nowhere/map"
head -c 1000 "$f" >"$TMP/short.map"
check_fails 1 "short.map: damaged" "a truncated file" align llama-tiny gemma3-tiny x --vocab-map mined --map "$TMP/short.map"
check_fails 1 "no vocabulary map" "a file that is none" align llama-tiny gemma3-tiny x --vocab-map mined --map README.md

# a map of other text
head -n 3 "$fixtures/text.jsonl" >"$TMP/other.jsonl"
check "another corpus" "$BIN/kf-prepare" --quiet --out "$TMP/corpus2" "$TMP/other.jsonl"
for m in llama-tiny gemma3-tiny; do "$BIN/kf-extract" --quiet --model "tests/models/$m" --corpus "$TMP/corpus2" --out "$TMP/$m.2"; done
g=$TMP/stats.llama-tiny-gemma3-tiny
check_fails 1 "made for another corpus" "counted elsewhere" align llama-tiny.2 gemma3-tiny.2 y --vocab-map stats --map "$g"
check "unless that is asked for" align llama-tiny.2 gemma3-tiny.2 y --vocab-map stats --map "$g" --map-corpus any

# looking at it
summary=$("$BIN/kf-inspect" "$g")
says() { grep -Eq -- "$1" <<<"$summary"; }
check "what it is" says '^method +stats$'
check "of whom" says '^source .*llama-tiny.* 400 tokens'
check "of which text" says '^corpus +[0-9a-f]{32}$'
check "how much" says '^maps +[0-9]+ of 400 tokens, [0-9]+ of them to a token of the same spelling, [0-9]+ seen together$'
check "a distance" says '^distance +1 [0-9]+$'
check "a line a token" test "$("$BIN/kf-inspect" --json "$g" | wc -l)" = 400
check "verify" "$BIN/kf-inspect" --verify "$g"
check_fails 1 "damaged" "verify sees damage" "$BIN/kf-inspect" --verify "$TMP/short.map"
check_fails 2 "vocabulary map" "a map has no documents" "$BIN/kf-inspect" --doc 1 "$g"
