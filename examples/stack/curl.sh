#!/usr/bin/env bash
# One call of each endpoint of a stack, as curl makes it:
#
#   OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=... examples/stack/curl.sh
set -euo pipefail
url=${OPENAI_BASE_URL%/v1}
llm=${LLM_MODEL:-qwen3} embedding=${EMBEDDING_MODEL:-qwen3-embedding} rerank=${RERANK_MODEL:-qwen3-reranker}

# The key goes in by a file that only this shell holds: on a command line everybody on the machine could read it.
call() {
    printf '== %s\n' "$1"
    curl --fail-with-body --silent --show-error --config <(printf 'header = "Authorization: Bearer %s"\n' "$OPENAI_API_KEY") \
        --header 'Content-Type: application/json' "${@:2}" "$url$1"
    printf '\n'
}

call /health
call /v1/models
call /v1/chat/completions --header 'X-Session-ID: an example' --data @- <<JSON
{"model": "$llm", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32}
JSON
call /v1/chat/completions --no-buffer --data @- <<JSON
{"model": "$llm", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, "stream": true}
JSON
call /v1/completions --data @- <<JSON
{"model": "$llm", "prompt": "Hello", "max_tokens": 8}
JSON
call /v1/responses --data @- <<JSON
{"model": "$llm", "input": "Hello!", "max_output_tokens": 32}
JSON
call /v1/messages --data @- <<JSON
{"model": "$llm", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32}
JSON
call /tokenize --data @- <<JSON
{"model": "$llm", "messages": [{"role": "user", "content": "Hello!"}]}
JSON
call /v1/embeddings --data @- <<JSON
{"model": "$embedding", "input": ["Hello!", "你好"]}
JSON
for path in /v1/rerank /v2/rerank; do
    call $path --data @- <<JSON
{"model": "$rerank", "query": "What is the capital of France?", "documents": ["Paris.", "A week has seven days."]}
JSON
done
call /v1/score --data @- <<JSON
{"model": "$rerank", "text_1": "What is the capital of France?", "text_2": ["Paris.", "A week has seven days."]}
JSON
