// Package virttemplate stands in for a module that the Go proxy does not serve.
package virttemplate

import (
	"errors"

	"k8s.io/client-go/rest"
)

// Client is what one informer asks for that virt-launcher never starts.
type Client struct{}

func NewForConfig(*rest.Config) (*Client, error) { return nil, errors.New("a stand-in") }

func (c *Client) TemplateV1beta1() *Client   { return c }
func (c *Client) RESTClient() rest.Interface { return nil }
