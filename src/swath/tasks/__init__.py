"""What a user asks for: one file per command. Each joins the other rooms into a whole job."""
