"""What people look at: pages to send, and a viewer in the browser."""
