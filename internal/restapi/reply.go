package restapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Reply is the agent's answer to an operation: a status code and either a text or a JSON body.
// The agent makes one with the functions below, so that the texts which other programs match on
// (patronictl, scripts) stand in one place. Any other refusal is Refused(code, text).
type Reply struct {
	Code int
	Text string
	JSON json.RawMessage // when set, it is sent instead of Text
	// Page marks an error that Patroni answers with an HTML page rather than a plain text.
	Page bool
}

// OK says whether the operation was carried out or accepted.
func (r Reply) OK() bool { return r.Code >= 200 && r.Code < 300 }

// Refused is a refusal in the agent's own words.
func Refused(code int, text string) Reply { return Reply{Code: code, Text: text} }

// Failed is a refusal because something broke on the way: 503 with the error's text.
func Failed(err error) Reply { return Reply{Code: http.StatusServiceUnavailable, Text: err.Error()} }

// ConfigDocument answers PATCH and PUT /config with the document now in force.
func ConfigDocument(doc json.RawMessage) Reply { return Reply{Code: http.StatusOK, JSON: doc} }

// ConfigMissing says that the store holds no configuration that could be patched.
func ConfigMissing() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "there is no dynamic configuration to change", Page: true}
}

// Conflict says that somebody else changed the same key meanwhile.
func Conflict() Reply {
	return Reply{Code: http.StatusConflict, Text: "somebody else made a change at the same time, try again", Page: true}
}

// WriteFailed says that a write to the consensus store failed.
func WriteFailed() Reply {
	return Reply{Code: http.StatusBadGateway, Text: "the consensus store did not take the change", Page: true}
}

// ReloadScheduled answers POST /reload.
func ReloadScheduled() Reply { return Reply{Code: http.StatusAccepted, Text: "reload scheduled"} }

// InProgress refuses an operation because the local job named by action runs. patronictl matches
// the end of this text.
func InProgress(action string) Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: action + " already in progress"}
}

// Restarted says that PostgreSQL was restarted and accepts connections.
func Restarted() Reply { return Reply{Code: http.StatusOK, Text: "restarted successfully"} }

// RestartScheduled says that the restart waits for its hour.
func RestartScheduled() Reply { return Reply{Code: http.StatusAccepted, Text: "Restart scheduled"} }

// RestartAlreadyScheduled refuses a second schedule.
func RestartAlreadyScheduled() Reply {
	return Reply{Code: http.StatusConflict, Text: "Another restart is already scheduled"}
}

// RestartNotNeeded says that role, version or pending flag do not match (row H-197).
func RestartNotNeeded() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "restart conditions are not satisfied"}
}

// StillStarting refuses a restart of a server that has not finished its start.
func StillStarting() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "postgres is still starting"}
}

// RestartFailed says that PostgreSQL did not come back.
func RestartFailed() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "restart failed"}
}

// RestartWhilePaused refuses to schedule a restart in pause mode.
func RestartWhilePaused() Reply {
	return Reply{Code: http.StatusInternalServerError, Text: "Can't schedule restart in the paused state"}
}

// RestartCancelled and NoRestartScheduled answer DELETE /restart.
func RestartCancelled() Reply {
	return Reply{Code: http.StatusOK, Text: "scheduled restart deleted"}
}

// NoRestartScheduled answers DELETE /restart when there is nothing to drop.
func NoRestartScheduled() Reply {
	return Reply{Code: http.StatusNotFound, Text: "no restarts are scheduled"}
}

// ReinitializeStarted answers POST /reinitialize.
func ReinitializeStarted() Reply {
	return Reply{Code: http.StatusOK, Text: "reinitialize started"}
}

// ReinitializeLeader refuses to throw away the leader's data.
func ReinitializeLeader() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "I am the leader, can not reinitialize"}
}

// ReinitializeNoLeader refuses to throw data away while nobody could supply it again.
func ReinitializeNoLeader() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "Cluster has no leader, can not reinitialize"}
}

// SwitchoverCancelled answers DELETE /switchover.
func SwitchoverCancelled() Reply {
	return Reply{Code: http.StatusOK, Text: "scheduled switchover deleted"}
}

// NoSwitchoverScheduled answers DELETE /switchover when there is nothing to drop.
func NoSwitchoverScheduled() Reply {
	return Reply{Code: http.StatusNotFound, Text: "no switchover is scheduled"}
}

// words are the request's name at the start of a sentence and inside one, and its past tense
// (row H-196).
func (r SwitchoverRequest) words() (title, past string) {
	if r.IsSwitchover() {
		return "Switchover", "switched over"
	}
	return "Failover", "failed over"
}

// Succeeded says who leads now.
func (r SwitchoverRequest) Succeeded(leader string) Reply {
	_, past := r.words()
	if r.Candidate == "" || r.Candidate == leader {
		return Reply{Code: http.StatusOK, Text: fmt.Sprintf("Successfully %s to %q", past, leader)}
	}
	first := "S" + past[1:]
	if past[0] == 'f' {
		first = "F" + past[1:]
	}
	return Reply{Code: http.StatusOK, Text: fmt.Sprintf("%s to %q instead of %q", first, leader, r.Candidate)}
}

// Scheduled says that the request waits for its hour.
func (r SwitchoverRequest) Scheduled() Reply {
	title, _ := r.words()
	return Reply{Code: http.StatusAccepted, Text: title + " scheduled"}
}

// Failed says that the request ended and the leader is still the old one.
func (r SwitchoverRequest) Failed() Reply {
	title, _ := r.words()
	return Reply{Code: http.StatusServiceUnavailable, Text: title + " failed"}
}

// StatusUnknown says that no outcome was seen within waited.
func (r SwitchoverRequest) StatusUnknown(waited time.Duration) Reply {
	title, _ := r.words()
	return Reply{
		Code: http.StatusServiceUnavailable,
		Text: fmt.Sprintf("%s status unknown after %d seconds; operation may still be in progress", title, int(waited.Seconds())),
	}
}

// WriteFailed says that the request could not be written down, so nothing was begun.
func (r SwitchoverRequest) WriteFailed() Reply {
	return Reply{Code: http.StatusServiceUnavailable, Text: "failed to write failover key into DCS"}
}
