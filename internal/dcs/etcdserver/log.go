package etcdserver

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet is the logger that etcd gets: warnings and worse only, unless everything is asked for, and
// without the errors by which it reports that its listeners are closed once it is being stopped.
func quiet(stopping context.Context, log *zap.Logger, everything bool) *zap.Logger {
	log = log.Named("etcd")
	if !everything && log.Core().Enabled(zap.InfoLevel) {
		log = log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return &closingCore{Core: c, stopping: func() bool { return stopping.Err() != nil }}
	}))
}

// closingCore drops one message during a stop.
type closingCore struct {
	zapcore.Core
	stopping func() bool
}

func (c *closingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == "setting up serving from embedded etcd failed." && c.stopping() {
		return ce
	}
	return c.Core.Check(e, ce)
}

func (c *closingCore) With(fields []zapcore.Field) zapcore.Core {
	return &closingCore{Core: c.Core.With(fields), stopping: c.stopping}
}
