"""The terminal application.

How the parts fit:

- ``session.py`` is the controller; it knows no widget. ``messages.py`` has the wishes that
  go up to the application and the news that come from the session.
- ``app.py`` holds the session and the screens. It hands news on by calling plain methods of
  the widgets, so a widget never needs to know the session to show something::

      panel.memory_panel.MemoryPanel       show_status(Status)  show_loaded(Loaded)
      panel.panel_line.PanelLine           show_switch(CacheChanged)  show_phase(Phase, float)

  The panel asks with ``PreviewWanted`` and is answered with ``show_preview(CachePreview)``.

- Screens that ask the session (a preview of a switch, the list of conversations) take it as
  their only argument: ``CacheChooser(session)``, ``LengthChooser(session)``,
  ``ModelPicker(session)``, ``ConversationList(session, query="")``,
  ``SettingsScreen(session)``, ``HelpScreen(session)``. What the person decides is posted as
  a wish; the screen then closes itself.
- ``commands.py`` is the one table of slash commands and keys.
"""
