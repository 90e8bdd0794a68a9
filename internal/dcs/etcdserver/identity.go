package etcdserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// ErrDataLost says: this member ran before, and its data is gone. It must be removed from the cluster and
// added again as a learner, which gives it a new identity.
var ErrDataLost = errors.New("the member's data is lost")

// ErrNotMember says: the cluster that answers does not list this member, so there is nothing to join.
var ErrNotMember = errors.New("the cluster does not list this member")

// Bounds of a question to the other members: before a start without data, where one that starts at
// the same time listens and does not answer yet, and before a stop.
const (
	askTimeout   = time.Second
	aliveTimeout = 2 * time.Second
)

// peerMember is one entry of the list that every member serves on its peer port.
type peerMember struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

// notePath is the note that this member has joined. It lies beside the data directory, so that it
// outlives the loss of that directory (though not of the whole disk).
func (c *Config) notePath() string { return filepath.Clean(c.DataDir) + ".joined" }

// mayStartEmpty refuses a start without data under an identity that was used before.
func (c *Config) mayStartEmpty(ctx context.Context) error {
	members, asked := c.askPeers(ctx)
	own := c.PeerTLS.scheme() + "://" + c.AdvertisePeer
	i := slices.IndexFunc(members, func(m peerMember) bool { return slices.Contains(m.PeerURLs, own) })
	switch {
	case i >= 0 && len(members[i].ClientURLs) > 0: // only the member itself ever published those
		return c.lost(fmt.Sprintf("%x", members[i].ID))
	case i >= 0:
		return nil // added, and never started
	case asked && c.InitialClusterState == embed.ClusterStateFlagExisting:
		return fmt.Errorf("%w: %s is not among its peer addresses; add it as a learner first", ErrNotMember, own)
	}
	if _, err := os.Stat(c.notePath()); err == nil {
		return c.lost("its id")
	}
	return nil
}

func (c *Config) lost(id string) error {
	return fmt.Errorf("%w: %s holds no data, but member %q has run before. It has forgotten its votes and must not come back under the same id: "+
		"remove it (etcdctl member remove %s), add it as a learner (etcdctl member add %s --learner --peer-urls=%s://%s), "+
		"set initial_cluster_state to existing, and start it again. It becomes a voter by itself",
		ErrDataLost, c.DataDir, c.Name, id, c.Name, c.PeerTLS.scheme(), c.AdvertisePeer)
}

// askPeers gives the member list of the first other member that answers. False: nobody did.
func (c *Config) askPeers(ctx context.Context) ([]peerMember, bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var cfg *tls.Config
	if c.PeerTLS.CertFile != "" {
		var err error
		if cfg, err = c.PeerTLS.info().ClientConfig(); err != nil {
			return nil, false // starting will fail on the same files, with a better message
		}
	}
	rt := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	lists := make(chan []peerMember, len(c.InitialCluster))
	asked := 0
	for name, addr := range c.InitialCluster {
		if name == c.Name {
			continue
		}
		asked++
		go func() { lists <- askPeer(ctx, rt, c.PeerTLS.scheme()+"://"+addr) }()
	}
	for range asked {
		if members := <-lists; len(members) > 0 {
			return members, true
		}
	}
	return nil, false
}

// askPeer gives nothing if the member does not answer.
func askPeer(ctx context.Context, rt http.RoundTripper, base string) []peerMember {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/members", nil)
	if err != nil {
		return nil
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil
	}
	var members []peerMember
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	return members
}

// writeNote records durably that this member has joined.
func (c *Config) writeNote(clusterID, memberID string) error {
	text := fmt.Sprintf("cluster %s member %s name %s\n", clusterID, memberID, c.Name)
	if old, err := os.ReadFile(c.notePath()); err == nil && string(old) == text {
		return nil
	}
	f, err := os.OpenFile(c.notePath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note of membership: %w", err)
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if dir, derr := os.Open(filepath.Dir(c.notePath())); derr == nil {
		err = errors.Join(err, dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("note of membership: %w", err)
	}
	return nil
}

// hostsOf is for messages.
func hostsOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
