"""The right reply first of ten, in real customer-service chats, without a human label."""
