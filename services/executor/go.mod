module github.com/greenlight-ml/greenlight/services/executor

go 1.26.0

require (
	github.com/greenlight-ml/greenlight/pkg v0.0.0
	github.com/greenlight-ml/greenlight/proto v0.0.0
)

replace (
	github.com/greenlight-ml/greenlight/pkg => ../../pkg
	github.com/greenlight-ml/greenlight/proto => ../../proto
)
