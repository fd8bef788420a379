"""What people type: flags in, text and exit statuses out. Everything else is a call into the layers below."""
