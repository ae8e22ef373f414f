package main

import (
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// quietLogrus takes what distribution's packages log, as text to stderr, into the
// mirror's own log, for debugging: what matters of it is in the access line.
func quietLogrus(log *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(logrusHook{log})
}

type logrusHook struct{ log *slog.Logger }

// Levels implements logrus.Hook.
func (logrusHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h logrusHook) Fire(e *logrus.Entry) error {
	h.log.Debug("distribution", "level", e.Level.String(), "message", e.Message, "error", e.Data[logrus.ErrorKey])
	return nil
}
