package launcher

import (
	"context"
	"net"
	"path/filepath"

	"google.golang.org/grpc"

	"kubevirt.io/kubevirt/pkg/hooks/info"
	"kubevirt.io/kubevirt/pkg/hooks/v1alpha3"
)

// Recorder is a second hook sidecar, written with KubeVirt's own messages: it changes nothing and
// keeps every domain that it is given.
type Recorder struct {
	v1alpha3.CallbacksServer // PreCloudInitIso is not subscribed to
	Domains                  []string
	Before                   func(pass int) // called first in each pass, if set
}

// Serve answers on <directory>/<name>.sock until stop is called.
func (r *Recorder) Serve(directory, name string) (stop func(), err error) {
	listener, err := net.Listen("unix", filepath.Join(directory, name+".sock"))
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	info.RegisterInfoServer(server, r)
	v1alpha3.RegisterCallbacksServer(server, r)
	go func() { _ = server.Serve(listener) }()
	return server.Stop, nil
}

func (r *Recorder) Info(context.Context, *info.InfoParams) (*info.InfoResult, error) {
	return &info.InfoResult{
		Name:       "recorder",
		Versions:   []string{v1alpha3.Version},
		HookPoints: []*info.HookPoint{{Name: info.OnDefineDomainHookPointName}},
	}, nil
}

func (r *Recorder) OnDefineDomain(_ context.Context, call *v1alpha3.OnDefineDomainParams) (*v1alpha3.OnDefineDomainResult, error) {
	if r.Before != nil {
		r.Before(len(r.Domains) + 1)
	}
	r.Domains = append(r.Domains, string(call.GetDomainXML()))
	return &v1alpha3.OnDefineDomainResult{DomainXML: call.GetDomainXML()}, nil
}
