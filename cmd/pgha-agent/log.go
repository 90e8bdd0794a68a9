package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/pgha/pgha/internal/config"
)

// newLogger builds the logger of section log: plain text or JSON, to standard error or to a file
// that is rotated.
func newLogger(c config.Log) (*zap.Logger, func(), error) {
	level, err := zapcore.ParseLevel(orInfo(c.Level))
	if err != nil {
		return nil, nil, fmt.Errorf("log.level: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewConsoleEncoder(enc)
	if c.Type == "json" {
		encoder = zapcore.NewJSONEncoder(enc)
	}
	sink, closeSink := zapcore.Lock(os.Stderr), func() {}
	if c.Dir != "" {
		file := &lumberjack.Logger{
			Filename:   filepath.Join(c.Dir, "pgha-agent.log"),
			MaxSize:    int(max(1, c.FileSize>>20)),
			MaxBackups: c.FileNum,
		}
		sink, closeSink = zapcore.AddSync(file), func() { _ = file.Close() }
	}
	log := zap.New(zapcore.NewCore(encoder, sink, level))
	for _, k := range slices.Sorted(maps.Keys(c.StaticFields)) {
		log = log.With(zap.String(k, c.StaticFields[k]))
	}
	return log, func() { _ = log.Sync(); closeSink() }, nil
}

func orInfo(s string) string {
	if s == "" {
		return "info"
	}
	return s
}
